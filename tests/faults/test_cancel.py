"""POST /runs/{id}/cancel: a run ends at once in any phase, and leaves nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection, Rollback, sql
from psycopg.errors import QueryCanceled
from psycopg.pq import TransactionStatus

from etl.postgres.transactions import transaction
from tests.support.client import (
    Client,
    StartService,
    begun,
    end_of,
    features,
    get,
    start,
    trigger,
)
from tests.support.databases import OwnPostgres
from tests.support.events import listening, until
from tests.support.locks import held_up

#: A statement that takes longer than a test, as a file of each kind would have it.
SLOW = "-- For a test: takes long.\nselect 1 as found from pg_sleep(60);\n"
SLOW_RULE = f"-- rejects: users.user_id\n-- reason: any\n{SLOW}".replace(
    "1 as found", "1 as user_id, '' as message"
)
SLOW_IN_SLICES = "-- For a test: takes long.\nselect etl.slices() from pg_sleep(60);\n"
STUBBORN = """-- For a test: ignores its cancellation.
do $$
begin
    loop
        begin
            perform pg_sleep(60);
        exception when query_canceled then
            null;
        end;
    end loop;
end
$$;
"""

TRIGGER = """
create function slow() returns trigger language plpgsql
as $$ begin perform pg_sleep(60); return new; end $$
"""

#: What is slow, by the statement that makes it so.
SLOW_TABLES = {
    "load": "trigger slow before insert on staging.users for each row",
    "publish": "trigger slow before insert on features for each row",
    "commit": (
        "constraint trigger slow after insert on features"
        " deferrable initially deferred for each row"
    ),
}

ONLY_PLAIN = pytest.mark.plain_postgres("a distributed table takes no trigger")


async def cancel(client: Client, number: int, status: int = 202) -> dict[str, Any]:
    """Cancel a run and require ``status``; the answer's JSON."""
    async with client.post(f"/runs/{number}/cancel") as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        assert response.status == status, answer
        assert response.headers["Cache-Control"] == "no-store"
        return answer


async def sleeping(connection: AsyncConnection, statement: str = "") -> int:
    """How many statements of this database sleep."""
    found = await connection.execute(
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        " and datname = current_database() and query like '%%' || %s || '%%'",
        [statement],
    )
    (count,) = await found.fetchone() or (0,)
    return int(count)


async def until_asleep(connection: AsyncConnection, count: int, statement: str) -> None:
    async with asyncio.timeout(30):
        while await sleeping(connection, statement) < count:
            await asyncio.sleep(0.02)


async def cancelled(
    client: Client, connection: AsyncConnection, count: int, statement: str = ""
) -> None:
    """Trigger a run that sleeps, cancel it, and require that nothing remains."""
    before = await features(client)
    running = asyncio.create_task(trigger(client, 409, full="true"))
    await until_asleep(connection, count, statement)
    number = (await begun(client))["id"]
    record = await cancel(client, number)
    assert (record["id"], record["state"]) == (number, "running")
    async with asyncio.timeout(30):
        answer = await running
    assert answer["result"] == answer["detail"] == "cancelled"
    assert answer["message"] == "ETL process started"
    assert answer["run"] == await get(client, f"/runs/{number}")
    assert (answer["run"]["state"], answer["run"]["error"]) == ("failed", "cancelled")
    assert answer["run"]["finished_at"] is not None
    assert await features(client) == before
    assert await sleeping(connection) == 0
    locks = await connection.execute("select count(*) from etl.locks")
    assert await locks.fetchone() == (0,)
    ended = await cancel(client, number, 409)
    assert ended["detail"] == f"run {number} has ended: failed"
    assert ended["run"] == answer["run"]


@pytest.mark.parametrize(
    "what", [pytest.param("load", marks=ONLY_PLAIN), "publish", "commit"]
)
async def test_while_rows_are_written(
    client: Client, connection: AsyncConnection, what: str
) -> None:
    await trigger(client)
    await connection.execute(TRIGGER)
    await connection.execute(
        f"create {SLOW_TABLES[what]} execute function slow()".encode()
    )
    await cancelled(client, connection, 1)
    await connection.execute("drop function slow cascade")
    await trigger(client)


@ONLY_PLAIN
async def test_while_an_irregular_record_is_parsed(
    client: Client, connection: AsyncConnection, data_dir: Path
) -> None:
    await trigger(client)
    users = data_dir / "users.csv"
    users.write_text(users.read_text().rstrip() + "\n0000000000000000000011,Odd,,\n")
    await connection.execute(TRIGGER)
    await connection.execute(
        "create trigger slow before insert on staging.users for each row"
        " when (new.user_id = 11) execute function slow()"
    )
    await cancelled(client, connection, 1, "load_raw_records")
    await connection.execute("drop function slow cascade")
    await trigger(client)
    assert len(await features(client)) == 11


@pytest.mark.parametrize(
    ("file", "text", "statements"),
    [
        ("clean/900_slow.sql", SLOW_RULE, 1),
        ("build/900_slow.sql", SLOW, 1),
        pytest.param(
            *("build/900_slow.sql", SLOW_IN_SLICES, 2),
            marks=pytest.mark.plain_postgres("a file is not run in slices there"),
        ),
        ("check/900_slow.sql", SLOW, 1),
    ],
)
async def test_while_a_file_runs(
    start_service: StartService,
    connection: AsyncConnection,
    sql_dir: Path,
    file: str,
    text: str,
    statements: int,
) -> None:
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    (sql_dir / file).write_text(text)
    await cancelled(client, connection, statements)
    (sql_dir / file).unlink()
    assert (await trigger(client))["run"]["id"] == 3


@pytest.mark.parametrize("phase", ["build", "check"])
async def test_a_file_that_ignores_its_cancellation(
    start_service: StartService, connection: AsyncConnection, sql_dir: Path, phase: str
) -> None:
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    (sql_dir / phase / "900_stubborn.sql").write_text(STUBBORN)
    await cancelled(client, connection, 1)
    (sql_dir / phase / "900_stubborn.sql").unlink()
    assert (await trigger(client))["run"]["id"] == 3


async def test_while_it_waits_for_a_lock(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        number = await start(client)
        async with listening(client) as listener:
            await until(listener, phase="load")
        await cancel(client, number)
        run = await end_of(client, number)
    assert (run["state"], run["error"], run["phase"]) == ("failed", "cancelled", "load")
    await trigger(client)


async def test_listeners_get_the_end_and_further_cancellations_are_ignored(
    client: Client, connection: AsyncConnection
) -> None:
    async with AsyncExitStack() as stack:
        async with held_up(connection):
            number = await start(client)
            listeners = [
                await stack.enter_async_context(listening(client)) for _ in range(2)
            ]
            for listener in listeners:
                await listener.next()
            await asyncio.gather(*(cancel(client, number) for _ in range(5)))
            ends = [(await listener.rest())[-1] for listener in listeners]
        assert ends == [("end", "end", await get(client, "/runs/1"))] * 2
    assert ends[0][2]["error"] == "cancelled"
    await trigger(client)


async def test_cancellations_at_many_moments(client: Client) -> None:
    """The run ends, and its record and the table agree."""
    states = []
    for pause in range(40):
        number = await start(client)
        await asyncio.sleep(pause / 500)
        async with client.post(f"/runs/{number}/cancel") as response:
            assert response.status in (202, 409)
        run = await end_of(client, number)
        assert (run["state"], run["error"]) in (
            *(("failed", "cancelled"), ("succeeded", None)),
        )
        async with client.get("/features?limit=1") as response:
            published = response.headers.get("X-Run-Id")
        states.append((str(number), run["state"]))
        good = [number for number, state in states if state == "succeeded"]
        assert published == (good[-1] if good else None)
    await trigger(client)


async def test_a_run_of_another_server(
    client: Client, start_service: StartService, connection: AsyncConnection
) -> None:
    other = await start_service()
    async with held_up(connection):
        number = await start(other)
        refused = await cancel(client, number, 409)
        assert refused["detail"] == "run 1 is another server's"
        assert refused["run"]["state"] == "running"
    assert (await end_of(client, number))["state"] == "succeeded"


async def test_what_cannot_be_cancelled(client: Client) -> None:
    await trigger(client)
    assert (await cancel(client, 1, 409))["detail"] == "run 1 has ended: succeeded"
    assert (await cancel(client, 2, 404))["detail"] == "there is no run '2'"
    async with client.get("/runs/1/cancel") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "OPTIONS, POST"
    async with client.post("/runs/1/cancel?force=true") as response:
        assert response.status == 400


async def test_a_cancel_that_comes_after_the_commit(
    start_service: StartService,
    own_postgres: OwnPostgres,
) -> None:
    """Cancelling a commit that waits for a standby only ends the waiting."""
    settings = {"wal_level": "replica", "max_wal_senders": "1"}
    async with await AsyncConnection.connect(
        own_postgres.conninfo, autocommit=True
    ) as one:
        for name, value in settings.items():
            await one.execute(f"alter system set {name} = '{value}'".encode())
    own_postgres.stop()
    own_postgres.start()
    client = await start_service(database=own_postgres.conninfo)
    await trigger(client)
    one = await AsyncConnection.connect(own_postgres.conninfo, autocommit=True)
    async with one:
        await one.execute("set synchronous_commit = off")
        await one.execute("alter system set synchronous_standby_names = 'nobody'")
        await one.execute("select pg_reload_conf()")
        running = asyncio.create_task(trigger(client, 200, full="true"))
        async with asyncio.timeout(30):
            while True:
                found = await one.execute(
                    "select from pg_stat_activity where wait_event = 'SyncRep'"
                )
                if await found.fetchall():
                    break
                await asyncio.sleep(0.02)
        await cancel(client, 2)
        answer = await running
        assert answer["run"]["state"] == "succeeded"
        assert answer["run"]["error"] is None
        async with client.get("/features?limit=1") as response:
            assert response.headers["X-Run-Id"] == "2"
        await one.execute("alter system reset synchronous_standby_names")
        await one.execute("select pg_reload_conf()")


async def test_a_transaction_ends_though_its_rollback_is_cancelled(
    connection: AsyncConnection, database: str
) -> None:
    """Of some hundred, one is cancelled in its ROLLBACK."""
    cancel = sql.SQL(
        "do $$ begin while true loop perform pg_cancel_backend({}), pg_sleep(0.0002);"
        " end loop; end $$"
    ).format(connection.info.backend_pid)
    async with await AsyncConnection.connect(database, autocommit=True) as other:
        cancelling = asyncio.create_task(other.execute(cancel))
        try:
            for _ in range(8000):
                with suppress(QueryCanceled):
                    async with transaction(connection, sql.SQL("select 1")):
                        raise Rollback
                assert connection.info.transaction_status == TransactionStatus.IDLE
        finally:
            await other.cancel_safe()
            with pytest.raises(QueryCanceled):
                await cancelling
