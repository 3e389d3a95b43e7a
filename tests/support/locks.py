"""Locks that a test holds to keep a run waiting, and waiting until it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import AsyncConnection

from tests.support.processes import SECONDS


@asynccontextmanager
async def held_up(
    connection: AsyncConnection, table: str = "staging.users"
) -> AsyncIterator[None]:
    """Inside the with block, a run waits for a lock on a table, by default its first
    one.
    """
    async with connection.transaction():
        await connection.execute(f"lock table {table}".encode())
        yield


async def waits_for_a_lock(connection: AsyncConnection, count: int = 1) -> None:
    """Until so many statements of this database wait for a lock."""
    async with asyncio.timeout(30):
        while True:
            # In a transaction, the sessions that it has seen first are all it sees.
            await connection.execute("select pg_stat_clear_snapshot()")
            rows = await connection.execute(
                "select count(*) from pg_stat_activity"
                " where wait_event_type = 'Lock' and datname = current_database()"
            )
            if await rows.fetchone() == (count,):
                return
            await asyncio.sleep(0.02)


@contextmanager
def locked(database: str, statement: str) -> Iterator[Callable[[], None]]:
    """Hold the locks that a statement takes; yield a wait for a blocked session."""
    with (
        psycopg.connect(database) as one,
        psycopg.connect(database, autocommit=True) as other,
    ):
        one.execute(statement.encode())

        def until_waited_for() -> None:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                found = other.execute(
                    "select from pg_stat_activity"
                    " where %s = any(pg_blocking_pids(pid))",
                    [one.info.backend_pid],
                )
                if found.fetchall():
                    return
                time.sleep(0.02)
            raise TimeoutError

        yield until_waited_for
