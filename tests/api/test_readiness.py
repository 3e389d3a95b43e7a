"""GET /readyz: whether requests are answered and a run can start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg import AsyncConnection

from etl.api import readiness
from etl.api.app_keys import DATABASE
from etl.postgres.pools import Pool
from tests.support.client import Client, begun, trigger
from tests.support.locks import held_up, waits_for_a_lock


async def ready(client: Client) -> tuple[int, dict[str, Any]]:
    async with client.get("/readyz") as response:
        return response.status, await response.json(content_type=None)


@asynccontextmanager
async def taken(pool: Pool, left: int = 0) -> AsyncIterator[None]:
    """While in here, the pool has only so many connections to give."""
    async with asyncio.timeout(20):
        connections = [pool.connection() for _ in range(pool.max_size - left)]
        for connection in connections:
            await connection.__aenter__()
    yield
    for connection in connections:
        await connection.__aexit__(None, None, None)


async def test_no_run_can_begin(client: Client) -> None:
    runners = client.app[DATABASE].runners
    assert await ready(client) == (200, {"status": "ready"})
    async with taken(runners):
        runners.timeout = 0.1
        status, answer = await ready(client)
        assert status == 503
        assert answer["title"] == "Service Unavailable"
        detail = "no run can begin: couldn't get a connection after 0.10 sec"
        assert answer["detail"] == detail
    runners.timeout = 20.0
    assert await ready(client) == (200, {"status": "ready"})
    await trigger(client)


async def test_a_run_in_progress_may_have_all_connections(
    client: Client, connection: AsyncConnection
) -> None:
    runners = client.app[DATABASE].runners
    async with held_up(connection):
        running = asyncio.create_task(trigger(client))
        await begun(client)
        await waits_for_a_lock(connection)
        free = runners.max_size - 3  # the lead and two workers
        async with taken(runners, left=runners.max_size - free):
            assert await ready(client) == (200, {"status": "ready"})
    await running


async def test_many_requests_take_one_connection(client: Client) -> None:
    runners = client.app[DATABASE].runners
    async with taken(runners, left=1):
        before = runners.get_stats()["requests_num"]
        answers = await asyncio.gather(*(ready(client) for _ in range(30)))
        assert {status for status, _ in answers} == {200}
        assert runners.get_stats().get("requests_errors", 0) == 0
        assert runners.get_stats()["requests_num"] - before < 30


async def test_it_does_not_wait_for_a_database_that_does_not_answer(
    client: Client, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "READY_SECONDS", 0.1)
    async with connection.transaction(force_rollback=True):
        # LOCK would lock the catalogs below the view too, and all statements with them.
        await connection.execute("alter view etl.feature_columns reset (check_option)")
        status, answer = await ready(client)
        assert status == 503
        detail = "the database is unavailable: there is no answer after 0.1 s"
        assert answer["detail"] == detail
        await waits_for_a_lock(connection)
    async with asyncio.timeout(20):
        while (await ready(client))[0] != 200:
            await asyncio.sleep(0.01)


async def test_a_schema_that_is_not_there(
    client: Client, connection: AsyncConnection
) -> None:
    """As between two steps of somebody who restores the database."""
    await connection.execute("alter schema etl rename to elsewhere")
    status, answer = await ready(client)
    assert status == 503
    assert answer["detail"] == "the database is unavailable: try again in a moment"
    await connection.execute("alter schema elsewhere rename to etl")
    assert await ready(client) == (200, {"status": "ready"})
