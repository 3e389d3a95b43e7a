"""Tables that somebody has locked: who needs them hears of it soon, others never."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from etl.api.app_keys import RUNNER
from etl.postgres import pools, shares
from etl.postgres.database import MAX_READERS, MAX_RECORDS
from etl.postgres.pools import READ_SETTINGS, RUN_SETTINGS
from tests.support.client import StartService, app_of, get, trigger
from tests.support.locks import held_up, waits_for_a_lock

#: Connections that read rows of which one client may use half.
MAX_READERS_OF_CLIENT = MAX_READERS // 2

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


#: What reads rows by a statement of its own, for each number.
READ_OTHERWISE = (
    "/features?order=name&user_id=gt.-{}",
    "/features?facet=name&user_id=gt.-{}",
    "/features/1?select=a{}:name",
)


async def test_readers_of_a_locked_table_keep_nobody_else_waiting(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are more of them than connections; all are served once it is free. Those
    of one client, as of clients in one /64, use half of the connections.
    """
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "60s")
    monkeypatch.setattr(pools, "POOL_WAIT_SECONDS", 60)
    monkeypatch.setattr(shares, "POOL_WAIT_SECONDS", 60)
    client = await start_service(trusted_proxies=(ip_network("127.0.0.1"),))
    await trigger(client)
    async with client.get("/features") as response:
        known = {"If-None-Match": response.headers["ETag"]}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(held_up(connection, "features"))
        reading: list[asyncio.Task[Any]] = []
        for address, count in (
            ("192.0.2.1", MAX_READERS_OF_CLIENT),
            ("2001:db8::{}", 2 * MAX_READERS_OF_CLIENT),
            ("192.0.2.2", MAX_READERS),
        ):
            for number in range(MAX_READERS):
                path = READ_OTHERWISE[number % 3].format(len(reading))
                forwarded = {"X-Forwarded-For": address.format(number)}
                reading.append(asyncio.create_task(get(client, path, forwarded)))
            await waits_for_a_lock(connection, count)
        for path in OTHERS:
            async with client.get(path) as response:
                assert response.status == 200, path
        async with client.get("/features", headers=known) as response:
            assert response.status == 304
    assert all(await asyncio.gather(*reading))


async def test_a_client_that_has_its_share_is_told_so(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "60s")
    monkeypatch.setattr(shares, "POOL_WAIT_SECONDS", 0.05)
    client = await start_service()
    await trigger(client)
    async with held_up(connection, "features"):
        reading = [
            asyncio.create_task(get(client, f"/features?user_id=gt.-{number}"))
            for number in range(MAX_READERS_OF_CLIENT)
        ]
        await waits_for_a_lock(connection, MAX_READERS_OF_CLIENT)
        for path in ("/features?order=name", "/features?facet=name"):
            async with client.get(path) as response:
                assert response.status == 503
                assert response.headers["Retry-After"]
                assert "for your address" in await response.text()
        # It waits with the others who have asked for the same.
        reading.append(asyncio.create_task(get(client, "/features?user_id=gt.-1")))
        await waits_for_a_lock(connection, MAX_READERS_OF_CLIENT)
    assert all(await asyncio.gather(*reading))


async def test_nobody_waits_with_others_for_their_share(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a client asks for is read for it, also where one that has its share already
    has asked for the same.
    """
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "60s")
    monkeypatch.setattr(shares, "POOL_WAIT_SECONDS", 60)
    client = await start_service(trusted_proxies=(ip_network("127.0.0.1"),))
    await trigger(client)
    first, second = ({"X-Forwarded-For": f"192.0.2.{each}"} for each in (1, 2))
    async with held_up(connection, "features"):
        reading = [
            asyncio.create_task(get(client, f"/features?user_id=gt.-{number}", first))
            for number in range(MAX_READERS_OF_CLIENT)
        ]
        await waits_for_a_lock(connection, MAX_READERS_OF_CLIENT)
        for number, path in enumerate(("/features?limit=2", "/features/1"), 1):
            wanted = [get(client, path, each) for each in (first, second)]
            reading += map(asyncio.create_task, wanted)
            await waits_for_a_lock(connection, MAX_READERS_OF_CLIENT + number)
    assert all(await asyncio.gather(*reading))


async def test_one_client_leaves_connections_for_what_others_ask_of_runs(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(READ_SETTINGS, "lock_timeout", "60s")
    monkeypatch.setattr(shares, "POOL_WAIT_SECONDS", 60)
    client = await start_service(trusted_proxies=(ip_network("127.0.0.1"),))
    await trigger(client)
    await app_of(client)[RUNNER].wait_for_cleanup()  # it deletes from etl.runs
    first, second = ({"X-Forwarded-For": f"192.0.2.{each}"} for each in (1, 2))
    async with held_up(connection, "etl.runs"):
        waiting = [
            asyncio.create_task(get(client, "/runs/1", first))
            for _ in range(2 * MAX_RECORDS)
        ]
        await waits_for_a_lock(connection, MAX_RECORDS // 2)
        for path in ("/readyz", "/files", "/openapi.json"):
            assert await get(client, path, second)
    assert all(await asyncio.gather(*waiting))


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
