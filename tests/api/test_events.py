"""/runs/{id}/events: the progress of a run and its end, as events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp.web import Server
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE, EVENTS
from tests.support.client import (
    Client,
    StartService,
    app_of,
    end_of,
    get,
    stalled_reader,
    start,
    trigger,
)
from tests.support.events import Listening, listening, parse_event, until
from tests.support.locks import held_up


def server_of(client: Client) -> Server:
    runner = client.server.runner
    assert runner is not None
    assert runner.server is not None
    return runner.server


async def until_there_are_no_listeners(client: Client) -> None:
    async with asyncio.timeout(30):
        while app_of(client)[EVENTS].listeners:
            await asyncio.sleep(0.02)


async def test_a_run_from_start_to_end(
    client: Client, connection: AsyncConnection, data_dir: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with held_up(connection):
            await start(client)
            listener = await stack.enter_async_context(listening(client))
            response = listener.response
            assert response.content_type == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Accel-Buffering"] == "no"
            first = await listener.block()
        assert first.startswith("retry: 2000\nid: 1\nevent: progress\n")
        name, _, state = parse_event(first)
        assert (name, state["id"], state["state"]) == ("progress", 1, "running")
        assert (state["rows"], state["bytes"], state["steps"]) == (0, 0, [])
        events = [(name, "1", state), *await listener.rest()]
    names = [name for name, _, _ in events]
    assert names == ["progress"] * (len(events) - 1) + ["end"]
    ids = [number for _, number, _ in events]
    assert ids == [*map(str, range(1, len(events))), "end"]
    states = [state for _, _, state in events[:-1]]
    assert list(states[-1]) == [
        *("id", "state", "phase", "file", "bytes", "total_bytes", "rows", "seconds"),
        *("files", "steps"),
    ]
    phases = filter(None, [state["phase"] for state in states])
    assert list(dict.fromkeys(phases)) == ["load", "clean", "build", "check", "publish"]
    seconds = [state["seconds"] for state in states]
    assert seconds == sorted(seconds)
    last = states[-1]
    size = sum(path.stat().st_size for path in data_dir.glob("*.csv"))
    assert last["bytes"] == last["total_bytes"] == size
    assert last["rows"] == 24
    users = {"file": "users.csv", "records": 10, "rejected": 0}
    assert users.items() <= last["files"][-1].items()
    assert last["files"][-1]["bytes"] == last["files"][-1]["total_bytes"] > 0
    steps = {step["file"]: step for step in last["steps"]}
    assert steps["build/030_features.sql"]["rows"] == 10
    assert events[-1][2] == await get(client, "/runs/1")
    assert events[-1][2]["state"] == "succeeded"


@pytest.mark.plain_postgres("a distributed table takes no trigger")
async def test_progress_names_the_file_that_is_loaded_or_executed(
    client: Client, connection: AsyncConnection
) -> None:
    await slow_down(connection, "staging.users")
    async with paused(connection):
        await start(client)
        async with listening(client) as listener:
            state = await until(listener, file="users.csv", rows=14)  # of the others
            assert state["phase"] == "load"
            assert state["bytes"] == state["total_bytes"]
    await end_of(client, 1)
    await connection.execute("drop trigger pause on staging.users")
    await slow_down(connection, "features_next")
    async with paused(connection):
        await start(client, full="true")
        async with listening(client, 2) as listener:
            state = await until(listener, file="build/030_features.sql")
            assert state["phase"] == "build"
    await end_of(client, 2)


async def slow_down(connection: AsyncConnection, table: str) -> None:
    """From now on each row that is written there waits while the test has a lock."""
    await connection.execute(
        "create or replace function pause() returns trigger language plpgsql as $$"
        " begin perform pg_advisory_xact_lock_shared(42); return new; end $$"
    )
    await connection.execute(
        f"create trigger pause before insert on {table}"
        " for each row execute function pause()".encode()
    )


@asynccontextmanager
async def paused(connection: AsyncConnection) -> AsyncIterator[None]:
    await connection.execute("select pg_advisory_lock(42)")
    try:
        yield
    finally:
        await connection.execute("select pg_advisory_unlock(42)")


async def test_late_and_returning_listeners_get_the_present_state(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        await start(client)
        for last in ("", "1", "7", "nonsense"):
            headers = {"Last-Event-ID": last} if last else {}
            async with client.get("/runs/1/events", headers=headers) as response:
                await until(Listening(response), phase="load")


async def test_a_finished_run(client: Client, data_dir: Path) -> None:
    await trigger(client)
    (data_dir / "users.csv").unlink()
    await trigger(client, 422)
    for number, state in ((1, "succeeded"), (2, "failed")):
        async with listening(client, number) as listener:
            run = await get(client, f"/runs/{number}")
            assert run["state"] == state
            assert await listener.rest() == [("end", "end", run)]
    headers = {"Last-Event-ID": "end"}
    async with client.get("/runs/1/events", headers=headers) as response:
        assert response.status == 204
        assert response.headers["Cache-Control"] == "no-store"


UNKNOWN = ["0", "1", "x", "-1", "9" * 19, "1.0", "%20", "%D9%A1"]


async def test_an_unknown_run(subtests: pytest.Subtests, client: Client) -> None:
    for number in UNKNOWN:
        with subtests.test(number=number):
            async with client.get(f"/runs/{number}/events") as response:
                assert response.status == 404
                assert response.content_type == "application/problem+json"


async def test_parameters_are_refused(client: Client) -> None:
    await trigger(client)
    async with client.get("/runs/1/events?since=3") as response:
        assert response.status == 400


async def test_head_has_the_headers_of_get_and_does_not_listen(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        await start(client)
        async with client.head("/runs/1/events") as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert await response.read() == b""
        assert not app_of(client)[EVENTS].listeners


async def test_heartbeats_in_silence(
    client: Client, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.run.events.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("etl.run.events.REFRESH_SECONDS", 0.02)
    async with held_up(connection):
        await start(client)
        async with listening(client) as listener:
            await listener.next()
            blocks = [await listener.block() for _ in range(20)]
            assert ":\n" in blocks


async def test_listeners_to_a_run_of_this_server_cost_no_query(
    client: Client, connection: AsyncConnection
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with held_up(connection):
            await start(client)
            records = app_of(client)[DATABASE].records
            before = records.get_stats()["requests_num"]
            listeners = [
                await stack.enter_async_context(listening(client)) for _ in range(20)
            ]
            for listener in listeners:
                await until(listener, phase="load")
        ends = [(await listener.rest())[-1] for listener in listeners]
        assert records.get_stats()["requests_num"] == before
    assert ends == [("end", "end", await get(client, "/runs/1"))] * 20


async def test_a_run_of_another_server(
    client: Client,
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("etl.run.events.POLL_SECONDS", 0.02)
    other = await start_service()
    async with contextlib.AsyncExitStack() as stack:
        async with held_up(connection):
            await start(other)
            here = await stack.enter_async_context(listening(client))
            too = await stack.enter_async_context(listening(client))
            for listener in (here, too):
                state = await until(listener, phase="load")
                assert list(state)[3:8] == [
                    *("file", "bytes", "total_bytes", "rows", "seconds")
                ]
        record = await end_of(client, 1)
        for listener in (here, too):
            assert (await listener.rest())[-1] == ("end", "end", record)
    await until_there_are_no_listeners(client)


async def test_a_run_of_another_server_that_died(
    client: Client, connection: AsyncConnection, database: str
) -> None:
    leader = await AsyncConnection.connect(database, autocommit=True)
    await leader.execute("select etl.begin_run(false, false, false)")
    async with listening(client) as listener:
        assert (await listener.next())[0] == "progress"
        await leader.close()
        name, _, record = (await listener.rest())[-1]
    assert (name, record["state"]) == ("end", "interrupted")


async def test_clients_that_disconnect_no_longer_listen(
    client: Client,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("etl.run.events.HEARTBEAT_SECONDS", 0.02)
    async with held_up(connection):
        await start(client)
        async with listening(client) as listener:
            await listener.next()
        await until_there_are_no_listeners(client)
        async with listening(client) as listener:  # and another may listen
            await listener.next()
    await end_of(client, 1)
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []


@pytest.mark.parametrize("is_finished", [False, True])
async def test_clients_that_read_nothing_are_disconnected(
    client: Client,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_finished: bool,
) -> None:
    long = b"data: " + b"x" * (16 << 20)
    monkeypatch.setattr("etl.run.events._event", lambda *_: long)
    monkeypatch.setattr("etl.http.bodies.PART_SECONDS", 0.2)
    server = server_of(client)
    if is_finished:
        await trigger(client)
    async with held_up(connection):
        if not is_finished:
            await start(client)
        before = len(server.connections)
        async with stalled_reader(client, "/runs/1/events") as reader:
            async with asyncio.timeout(30):
                while len(server.connections) > before:
                    await asyncio.sleep(0.02)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := await reader.read(1 << 16):
                    received += len(chunk)
            assert received < len(long)
        await until_there_are_no_listeners(client)
    assert (await end_of(client, 1))["state"] == "succeeded"
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []


async def test_too_many_listeners(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of the streams are for one client, and all are for four at most."""
    monkeypatch.setattr("etl.api.routes.MAX_LISTENERS", 4)
    client = await start_service(trusted_proxies=(ip_network("127.0.0.1"),))
    async with held_up(connection), contextlib.AsyncExitStack() as stack:
        await start(client)
        for address, whose in (
            ("192.0.2.1", None),
            ("192.0.2.1", None),
            ("192.0.2.1", "2 streams of events are in progress for your address"),
            ("2001:db8::1", None),
            ("2001:db8::2", None),
            ("2001:db8::3", "2 streams of events are in progress for your address"),
            ("192.0.2.2", "4 streams of events are in progress for all clients"),
        ):
            headers = {"X-Forwarded-For": address}
            asked = client.get("/runs/1/events", headers=headers)
            response = await stack.enter_async_context(asked)
            assert response.status == (503 if whose else 200)
            if whose:
                assert response.headers["Retry-After"]
                assert whose in await response.text()
    await until_there_are_no_listeners(client)
    async with client.get("/runs/1/events") as response:
        assert response.status == 200


async def test_a_stop_ends_all_streams(
    start_service: StartService,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of a run of this server with its end event."""
    monkeypatch.setattr("etl.run.runs.STOP_SECONDS", 30)  # on a busy machine
    server, other = await start_service(), await start_service()
    async with contextlib.AsyncExitStack() as stack:
        async with held_up(connection):
            await start(server)
            here = await stack.enter_async_context(listening(server))
            there = await stack.enter_async_context(listening(other))
            for listener in (here, there):
                await listener.next()
            for stopped in (other, server):
                await stopped.server.close()
        name, number, record = (await here.rest())[-1]
        assert (name, number, record["state"]) == ("end", "end", "interrupted")
        assert record["error"] == "interrupted: the service was stopped"
        assert {name for name, *_ in await there.rest()} <= {"progress"}
        assert there.response.content.is_eof()
