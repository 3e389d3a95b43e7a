"""Tables that somebody has locked: who needs them hears of it soon, others never."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from etl.postgres.database import MAX_READERS
from etl.postgres.pools import READ_SETTINGS, RUN_SETTINGS
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


#: Where a run meets a lock, what takes it, and whether the run does everything again.
LOCKS = [
    ("load", "lock staging.users", "true"),
    ("build", "lock features_next", "true"),
    ("build/030_features.sql", "lock staging.compounds", "false"),
    ("publish", "select from features limit 1 for update", "true"),
]


@pytest.mark.parametrize(("where", "statement", "full"), LOCKS)
async def test_a_run_says_who_has_locked_what_it_waited_for(
    start_service: StartService,
    connection: AsyncConnection,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    statement: str,
    full: str,
) -> None:
    monkeypatch.setitem(RUN_SETTINGS, "lock_timeout", "1s")
    monkeypatch.setattr("etl.run.runs.LOOK_SECONDS", 0.02)
    client = await start_service()
    await trigger(client)
    with (data_dir / "users.csv").open("a") as users:
        users.write("\n99,Zoe,zoe@example.com,2024-01-01\n")
    await connection.execute("set application_name = 'a migration'")
    async with connection.transaction():
        await connection.execute(statement.encode())
        failed = await trigger(client, 500, full=full)
    table = re.findall("staging.[a-z]+|features[a-z_]*", statement)[0]
    holder = f"process {connection.info.backend_pid} (a migration, user "
    expected = f"{where}: waited for a lock for over 1s: {table} is locked by {holder}"
    assert failed["result"].startswith(expected), failed["result"]
    assert failed["run"]["error"] == failed["result"]
    await trigger(client)
