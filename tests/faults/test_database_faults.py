"""Databases that go away, and what dead runs leave behind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE
from tests.support.client import (
    Client,
    StartService,
    app_of,
    begun,
    end_of,
    features,
    get,
    start,
    trigger,
)
from tests.support.databases import OwnPostgres
from tests.support.events import listening, until
from tests.support.locks import held_up, waits_for_a_lock
from tests.support.processes import SECONDS


async def status(client: Client, path: str) -> int:
    async with client.get(path) as response:
        await response.read()
        return response.status


async def refused_as_unavailable(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 503, path
        assert response.content_type == "application/problem+json"
        assert response.headers["Retry-After"]
        assert "socket" not in await response.text()  # internals stay in the log


async def metrics(client: Client) -> list[str]:
    async with client.get("/metrics") as response:
        return (await response.text()).splitlines()


async def test_a_database_that_goes_away_is_503_and_comes_back(
    start_service: StartService, own_postgres: OwnPostgres
) -> None:
    client = await start_service(database=own_postgres.conninfo)
    await trigger(client)
    own_postgres.stop()
    paths = ("/features", "/features/1", "/runs", "/readyz")
    # At once, as each waits for a connection as long as the pool does.
    away, counted, *_ = await asyncio.gather(
        trigger(client, 503),
        metrics(client),
        *(refused_as_unavailable(client, path) for path in paths),
    )
    assert away["run"] is None
    assert away["result"].startswith("the database is unavailable")
    assert await status(client, "/healthz") == 200
    assert "etl_database_up 0.0" in counted
    assert 'etl_runs_total{state="succeeded"} 1.0' in counted
    assert not [line for line in counted if line.startswith("etl_features_rows")]
    own_postgres.start()
    async with asyncio.timeout(20):
        while await status(client, "/readyz") != 200:
            pass
    assert len(await features(client)) == 10
    await trigger(client)


async def test_a_database_that_is_away_at_start_is_waited_for(
    start_service: StartService, own_postgres: OwnPostgres
) -> None:
    own_postgres.stop()
    starting = asyncio.create_task(start_service(database=own_postgres.conninfo))
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done
    await asyncio.to_thread(own_postgres.start)
    await trigger(await starting)


async def test_a_run_whose_leader_is_gone_is_interrupted(
    client: Client, connection: AsyncConnection
) -> None:
    """As after a server was killed: nothing in the row says so."""
    await connection.execute(
        "insert into etl.runs (dry_run, backend_pid) values (false, 0)"
    )
    async with client.get("/runs/1") as response:
        assert (await response.json())["state"] == "interrupted"
    assert (await trigger(client))["run"]["id"] == 2
    found = await connection.execute("select state from etl.runs where id = 1")
    assert await found.fetchall() == [("interrupted",)]


async def test_a_clock_that_is_set_back_makes_no_run_take_less_than_nothing(
    client: Client, connection: AsyncConnection, database: str
) -> None:
    """It then began in the future."""
    other = await AsyncConnection.connect(database, autocommit=True)
    async with other, held_up(connection):
        number = await start(client)
        await other.execute(
            "update etl.runs set started_at = started_at + interval '1 hour'"
        )
        assert 0 <= (await get(client, f"/runs/{number}"))["seconds"] < 60
    run = await end_of(client, number)
    assert run["state"] == "succeeded"
    assert run["started_at"] > run["finished_at"]
    assert 0 < run["seconds"] < 60


async def test_a_run_that_ends_while_it_is_read_is_not_interrupted(
    client: Client, connection: AsyncConnection, database: str
) -> None:
    """Its row was read before the end, and the leader's lock looked for after it."""
    leader = await AsyncConnection.connect(database, autocommit=True)
    async with leader:
        await leader.execute("select etl.begin_run(false, false, false)")
        await connection.execute(
            """
            create function late_locks() returns table (pid integer, leads boolean)
            language plpgsql as $$
            begin
                perform pg_advisory_xact_lock_shared(42);
                return query select locks.pid, true from pg_locks as locks
                where locks.classid = 6648940 and locks.objid = 1;
            end
            $$
            """
        )
        await connection.execute(
            "create or replace view etl.locks as select * from late_locks()"
        )
        await connection.execute("select pg_advisory_lock(42)")
        reading = asyncio.create_task(get(client, "/runs/1"))
        await waits_for_a_lock(connection)
        await leader.execute(
            "update etl.runs set state = 'failed', finished_at = now()"
        )
        await leader.execute("select pg_advisory_unlock_all()")
        await connection.execute("select pg_advisory_unlock(42)")
        assert (await reading)["state"] == "failed"


async def test_what_works_for_a_dead_run_cannot_reach_a_later_one(
    client: Client, database: str, connection: AsyncConnection
) -> None:
    leader = await AsyncConnection.connect(database, autocommit=True)
    worker = await AsyncConnection.connect(database, autocommit=True)
    async with leader, worker:
        begun = await leader.execute(
            "select summary ->> 'id' from etl.begin_run(false, false, false)"
        )
        assert await begun.fetchone() == ("1",)
        await worker.execute("select etl.attach_worker(1)")
        work = asyncio.create_task(_work_for_long(worker))
        await _until_active(client, database)
        await leader.close()
        # The server releases the lock of a closed connection when it gets to it.
        await _until_nothing_leads(connection)
        assert (await trigger(client))["run"]["id"] == 2
        with pytest.raises(psycopg.OperationalError):  # it was ended before run 2 began
            await work
        with pytest.raises(psycopg.Error, match="run 1 has ended"):
            await connection.execute("select etl.attach_worker(1)")
    assert len(await features(client)) == 10


async def _until_nothing_leads(connection: AsyncConnection) -> None:
    async with asyncio.timeout(20):
        while True:
            found = await connection.execute("select from etl.locks where leads")
            if not await found.fetchall():
                return


async def _work_for_long(worker: AsyncConnection) -> None:
    await worker.execute("insert into staging.users select 99 from pg_sleep(60)")


async def _until_active(client: Client, database: str) -> None:
    async with await AsyncConnection.connect(database, autocommit=True) as one:
        async with asyncio.timeout(20):
            while True:
                found = await one.execute(
                    "select from pg_stat_activity where query like '%%pg_sleep(60)'"
                    " and state = 'active' and pid <> pg_backend_pid()"
                )
                if await found.fetchall():
                    return


async def test_a_leader_that_loses_its_connection_fails_its_run(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        running = asyncio.create_task(trigger(client, 503))
        await begun(client)
        ended = await connection.execute(
            "select pg_terminate_backend(pid) from etl.locks where leads"
        )
        assert await ended.fetchall() == [(True,)]
    answer = await running
    assert answer["run"]["state"] == "failed"
    assert answer["result"].startswith("the connection to the database was lost")
    await trigger(client)


async def test_a_leader_that_is_lost_before_its_first_worker_attaches(
    client: Client, connection: AsyncConnection, database: str
) -> None:
    """Another server then leads a run of its own, and the worker is refused."""
    pool = app_of(client)[DATABASE].runners
    pool.timeout = SECONDS  # as long as this test holds all but the leader's
    other = await AsyncConnection.connect(database, autocommit=True)
    async with other:
        async with AsyncExitStack() as held:
            for _ in range(pool.max_size - 1):
                await held.enter_async_context(pool.connection())
            running = asyncio.create_task(trigger(client, 503))
            await begun(client)
            async with asyncio.timeout(SECONDS):
                while not pool.get_stats()["requests_waiting"]:
                    await asyncio.sleep(0.01)
            await connection.execute(
                "select pg_terminate_backend(pid) from etl.locks where leads"
            )
            await _until_nothing_leads(connection)
            await other.execute("select etl.begin_run(false, false, false)")
        answer = await running
    lost = "the connection that led the run was lost: run 1 has ended"
    assert answer["result"].startswith(lost)
    assert answer["run"]["state"] == "interrupted"
    await _until_nothing_leads(connection)
    assert (await trigger(client))["run"]["id"] == 3


@pytest.mark.plain_postgres("a distributed table takes no trigger")
async def test_a_worker_that_loses_its_connection_fails_its_run(
    client: Client, connection: AsyncConnection
) -> None:
    """As when the server restarts while the leader idles; the end is on record."""
    await connection.execute(
        "create function slow() returns trigger language plpgsql"
        " as $$ begin perform pg_sleep(60); return new; end $$"
    )
    await connection.execute(
        "create trigger slow before insert on staging.users"
        " for each row execute function slow()"
    )
    running = asyncio.create_task(trigger(client, 503))
    async with asyncio.timeout(20):
        ended: list[tuple[bool]] = []
        while len(ended) < 2:
            found = await connection.execute(
                "select pg_terminate_backend(pid) from etl.locks"
                " where exists (select from pg_stat_activity as busy"
                " where busy.wait_event = 'PgSleep')"
            )
            ended = await found.fetchall()
    answer = await running
    assert answer["result"].startswith("the connection to the database was lost")
    assert answer["run"]["state"] == "failed"
    async with client.get("/runs/1") as response:
        assert await response.json() == answer["run"]


async def test_listeners_while_the_database_goes_away(
    start_service: StartService,
    own_postgres: OwnPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those to a run of this server hear at once that it has ended, the others when the
    database is back.
    """
    monkeypatch.setattr("etl.run.events.POLL_SECONDS", 0.02)
    server = await start_service(database=own_postgres.conninfo)
    other = await start_service(database=own_postgres.conninfo)
    holding = await AsyncConnection.connect(own_postgres.conninfo)
    await holding.execute("lock table staging.users")
    number = await start(server)
    async with listening(server) as here, listening(other) as there:
        for listener in (here, there):
            await until(listener, phase="load")
        await asyncio.to_thread(own_postgres.stop)
        name, _, record = (await here.rest())[-1]
        assert (name, record["id"]) == ("end", number)
        assert record["state"] == "interrupted"
        assert record["error"].startswith("the connection to the database was lost")
        await asyncio.to_thread(own_postgres.start)
        name, _, record = (await there.rest())[-1]
        assert (name, record["state"]) == ("end", "interrupted")
    await holding.close()
    async with asyncio.timeout(20):
        while await status(server, "/readyz") != 200:
            pass
    await trigger(server)


@pytest.mark.parametrize("what", ["fault_of", "save_run"])
async def test_a_run_ends_whatever_fails_at_its_end(
    client: Client,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no such device")

    users = (data_dir / "users.csv").rename(data_dir / "users.old")
    with monkeypatch.context() as patch:
        patch.setattr(f"etl.run.runs.{what}", fail)
        answer = await trigger(client, 500 if what == "fault_of" else 422)
    assert answer["run"]["state"] == "interrupted"
    assert "no such device" in caplog.text
    caplog.clear()
    users.rename(data_dir / "users.csv")
    await trigger(client)


@pytest.mark.parametrize("runs_before", [0, 1, 2], ids=["whole", "same", "unchanged"])
@pytest.mark.parametrize("dry_run", ["false", "true"])
async def test_a_success_that_is_not_committed_is_none(
    client: Client, connection: AsyncConnection, runs_before: int, dry_run: str
) -> None:
    """The answer is what others will read in the record of the run."""
    for _ in range(runs_before):
        await trigger(client)
    await connection.execute(
        "create function fail() returns trigger language plpgsql as"
        " $$ begin raise 'the commit fails'; end $$"
    )
    await connection.execute(
        "create constraint trigger fail after update on etl.runs"
        " deferrable initially deferred for each row when (new.state = 'succeeded')"
        " execute function fail()"
    )
    run = (await trigger(client, 500, dry_run=dry_run))["run"]
    assert run["state"] == "failed"
    assert await get(client, f"/runs/{run['id']}") == run
    await connection.execute("drop function fail cascade")
    await trigger(client)
