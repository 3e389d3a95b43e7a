"""What others do while a service runs or between its runs: end one, change a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import aiohttp
import psycopg
from psycopg import AsyncConnection, sql

from etl.run.records import Run
from tests.support.client import Client, end_of, start
from tests.support.locks import held_up, waits_for_a_lock

#: Tables that a run waits for while a step holds a lock on them.
LOCKED = (
    *("staging.users", "staging.user_experiments", "staging.compounds"),
    *("activity_next", "totals_next", "features_next", "features"),
    *("etl.rejects", "etl.published", "etl.loads", "etl.results"),
)

#: What somebody may do by hand between two runs.
BY_HAND = (
    "insert into staging.users values (3, 'Hand', '', null)",
    "delete from staging.users where user_id % 2 = 1",
    "update staging.users set name = 'Hand'",
    "truncate staging.users",
    "insert into staging.user_experiments values (77, 1, '1', 1)",
    "delete from staging.user_experiments where user_id % 2 = 0",
    "update staging.user_experiments set experiment_compound_ids = '3'",
    "truncate staging.user_experiments",
    "update staging.compounds set compound_name = 'Hand'",
    "delete from staging.compounds",
    "insert into activity_next values (1, 7, 1)",
    "update activity_next set total_experiments = 3",
    "delete from activity_next",
    "truncate activity_next",
    "update totals_next set total_users = 5",
    "truncate totals_next",
    "update features_next set name = 'Hand'",
    "delete from features_next where user_id % 2 = 0",
    "truncate features_next",
    "update features set name = 'Hand'",
    "delete from features",
)


async def cancel(client: Client, connection: AsyncConnection, number: int) -> None:
    async with client.post(f"/runs/{number}/cancel") as response:
        assert response.status in (202, 409)


async def terminate(client: Client, connection: AsyncConnection, number: int) -> None:
    """End all server processes of the run."""
    await connection.execute(
        "select pg_terminate_backend(locks.pid) from etl.locks as locks"
    )


async def stop(client: Client, connection: AsyncConnection, number: int) -> None:
    """Stop the service."""
    with suppress(aiohttp.ClientError):
        await client.close()


async def crash(connection: AsyncConnection) -> None:
    """What a crash of the server leaves: no other connection to this database, nothing
    in unlogged tables, and no statistics.
    """
    async with connection.transaction():
        with suppress(psycopg.errors.LockNotAvailable):  # locked by a session that ends
            async with connection.transaction():
                await connection.execute("lock table etl.results, etl.loads nowait")
        await connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        )
        # A crash has no triggers.
        await connection.execute("select set_config('etl.run_id', '0', true)")
        await connection.execute(
            "do $$ begin execute (select 'truncate ' || string_agg(oid::regclass::text,"
            " ', ') from pg_class where relpersistence = 'u' and relkind = 'r'); end $$"
        )
        await connection.execute("select pg_stat_reset()")


async def write_by_hand(
    client: Client, connection: AsyncConnection, number: int
) -> None:
    """Change a table beside the run, unless it is locked."""
    with suppress(psycopg.errors.LockNotAvailable):
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '20ms'")
            await connection.execute(BY_HAND[number % len(BY_HAND)].encode())
            await connection.execute("select pg_stat_force_next_flush()")


async def full_run_beside(
    client: Client, connection: AsyncConnection, database: str, statement: str
) -> None:
    """A full run, during which somebody else executes a statement: after the files are
    loaded, and before the build fills activity_next.
    """
    async with held_up(connection, "activity_next"):
        number = await start(client, full="true")
        async with await AsyncConnection.connect(database, autocommit=True) as other:
            await waits_for_a_lock(other)
            await other.execute(statement.encode())
    await end_of(client, number)


async def crash_in_run(client: Client, connection: AsyncConnection, _: int) -> None:
    await crash(connection)


#: How a run may end early; and what else may happen to it on a plain Postgres, where
#: the suite may do all.
ENDS = (cancel, terminate, stop)
OF_PLAIN_POSTGRES = (write_by_hand, crash_in_run)

PHASES = ("clean", "build", "check", "publish")

#: Waits for the moment in which a run is to end, or until it is done.
Wait = Callable[[Run], Awaitable[None]]


@asynccontextmanager
async def held_back(database: str, rng: Random) -> AsyncIterator[tuple[Wait, str]]:
    """A moment of the run that begins in here, and a few words that say which.

    It is some turns of the loop after a phase begins, or where the run waits for a
    table: that stays locked to the end of the with block.
    """
    if rng.random() < 0.6:
        phase, turns = rng.choice(PHASES), rng.choice([0, 0, 5, 20, 80])

        async def wait_for_phase(run: Run) -> None:
            begun = asyncio.Event()

            def compare_phase() -> None:
                if run.phase == phase:
                    begun.set()

            run.on_phase.append(compare_phase)
            waits = [asyncio.create_task(each.wait()) for each in (begun, run.done)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)

        yield wait_for_phase, f"{turns} turns after {phase} begins"
        return
    table, mode = rng.choice(LOCKED), rng.choice(["access exclusive", "share"])
    async with (
        await AsyncConnection.connect(database) as holder,
        await AsyncConnection.connect(database, autocommit=True) as observer,
    ):
        found = await holder.execute("select to_regclass(%s)", [table])
        if await found.fetchone() != (None,):
            name = sql.Identifier(*table.split("."))
            lock = sql.SQL("lock table {} in {} mode").format(name, sql.SQL(mode))
            await holder.execute(lock)

        async def wait_until_blocked(run: Run) -> None:
            query = "select from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
            while not run.done.is_set():
                found = await observer.execute(query, [holder.info.backend_pid])
                if found.rowcount:
                    return
                await asyncio.sleep(0.005)

        yield wait_until_blocked, f"waiting for {table} ({mode})"
        with suppress(psycopg.OperationalError):  # of one that a crash has ended
            await holder.rollback()
