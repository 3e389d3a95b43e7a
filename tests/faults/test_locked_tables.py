"""Tables that somebody has locked: who needs them hears of it soon, others never."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from psycopg import AsyncConnection

from etl.postgres.database import MAX_READERS
from etl.postgres.pools import READ_SETTINGS
from tests.support.client import StartService, get, trigger
from tests.support.locks import held_up, waits_for_a_lock

#: What reads no row of features.
OTHERS = (
    *("/runs", "/runs/1", "/readyz", "/metrics", "/healthz"),
    *("/files", "/charts", "/openapi.json", "/"),
)

#: What reads them, in all ways.
READERS = (
    *("/features", "/features?format=csv", "/features/1", "/features?facet=name"),
    *("/features?select=count()", "/charts/010_users_by_experiments"),
)


async def test_readers_of_a_locked_table_keep_nobody_else_waiting(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are more of them than connections; all are served once it is free."""
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "60s")
    client = await start_service()
    await trigger(client)
    async with client.get("/features") as response:
        known = {"If-None-Match": response.headers["ETag"]}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(held_up(connection, "features"))
        reading = [
            asyncio.create_task(get(client, f"/features?limit={number + 1}"))
            for number in range(MAX_READERS + 5)
        ]
        await waits_for_a_lock(connection, MAX_READERS)
        for path in OTHERS:
            async with client.get(path) as response:
                assert response.status == 200, path
        async with client.get("/features", headers=known) as response:
            assert response.status == 304
    assert all(await asyncio.gather(*reading))


async def test_readers_of_a_locked_table_give_up(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "50ms")
    client = await start_service()
    await trigger(client)
    async with held_up(connection, "features"):
        for path in READERS:
            async with client.get(path) as response:
                assert response.status == 503, path
                assert response.headers["Retry-After"]
                detail = (await response.json(content_type=None))["detail"]
            assert (
                detail == "another session has locked features: try again in a moment"
            )
    for path in READERS:
        async with client.get(path) as response:
            assert response.status == 200, path
