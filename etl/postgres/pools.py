"""Pools of connections, with the server settings that each kind of work needs.

Knows how a connection is taken and given back, and nothing of what it is used for.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Mapping,
)
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg_pool import AsyncConnectionPool

from etl.postgres.shares import POOL_WAIT_SECONDS, Shares

T = TypeVar("T")

#: A firewall or a proxy may drop a connection and tell neither side. It ends where for
#: a minute nothing that was sent arrives, and no answer of an idle one, which is asked
#: after 10 seconds and then every 5. With a shorter bound, a server that is busy with
#: its disk would be taken for gone.
LOST_MILLISECONDS = 60_000
CLIENT_SIDE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "tcp_user_timeout": LOST_MILLISECONDS,
}

#: For every connection: what is sent and read does not depend on what an administrator
#: has set. (Before PostgreSQL 17 there is no transaction_timeout.)
COMMON_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}

#: For the connections of a run. Slices fill the cores, so parallel query would only
#: compete; sorts of this size stay in the caches, and larger ones were no faster.
#: Staging can be loaded again, so its commits need not wait for the disk.
RUN_SETTINGS = {
    **COMMON_SETTINGS,
    "application_name": "features-etl run",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "60s",
    "synchronous_commit": "off",
    "jit": "off",
    "work_mem": "64MB",
    "max_parallel_workers_per_gather": "0",
    # The server's side of it: a leader that was cut off would keep its lock for hours.
    # Not for readers: a client that reads slowly would look like one that is gone.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_user_timeout": str(LOST_MILLISECONDS),
}

#: For the connections that answer requests: they write nothing, and what takes longer
#: than a reader waits is ended; a stream has bounds of its own. A lock is waited for
#: less long than a connection, so that those who queue behind such readers get theirs.
READ_SETTINGS = {
    **COMMON_SETTINGS,
    "application_name": "features-etl",
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "lock_timeout": "2s",
}


class TableLocked(LockNotAvailable):
    """A lock was waited for too long; the message names the tables that are locked."""


async def configure(connection: AsyncConnection, session: Mapping[str, str]) -> None:
    """Set those of these settings that the server has, until the connection ends."""
    await connection.execute(
        "select set_config(name, value, false)"
        " from unnest(%s::text[], %s::text[]) as settings (name, value)"
        " where current_setting(name, true) is not null",
        [list(session.keys()), list(session.values())],
    )


class Pool(AsyncConnectionPool[AsyncConnection]):
    """A pool whose connections are taken by ``connection()`` and ``connection_for()``.

    ``getconn`` and ``putconn`` wait for locks, for other tasks and for the server. A
    cancellation that arrives there can lose the connection, and a second one, while a
    client waits in the queue, can block the whole pool (``asyncio.wait_for`` up to
    Python 3.11). So each runs in a task of its own, which the cancellation of the
    caller does not reach.
    """

    def __init__(
        self,
        conninfo: str,
        session: Mapping[str, str],
        min_size: int,
        max_size: int,
        reset: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            conninfo,
            kwargs={
                "autocommit": True,
                "connect_timeout": POOL_WAIT_SECONDS,
                **CLIENT_SIDE,
            },
            min_size=min_size,
            max_size=max_size,
            open=False,
            configure=partial(configure, session=session),
            check=self._require_alive,
            reset=reset,
            timeout=POOL_WAIT_SECONDS,
            # Short, so that the next request tries again as soon as it may be back.
            reconnect_timeout=POOL_WAIT_SECONDS,
        )
        self._running: set[asyncio.Task[Any]] = set()
        self._shares = Shares(max(1, max_size // 2))

    @asynccontextmanager
    async def connection_for(self, client: Hashable) -> AsyncIterator[AsyncConnection]:
        """A connection for what a client asks, while in here: half of them at most.

        Raises what ``connection`` does, and RequestError, a 503, where the client has
        its half, and none of these becomes free in time.
        """
        async with self._shares.of(client), self.connection() as connection:
            yield connection

    @asynccontextmanager
    async def connection(
        self, timeout: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A connection while in here; the pool rolls back what is left open on it.

        Raises PoolTimeout after ``timeout`` seconds, by default the pool's own, and
        TableLocked for what is raised in here where a lock was waited for too long.
        """
        taking = self._start_task(self.getconn(timeout))
        try:
            yield await asyncio.shield(taking)
        except LockNotAvailable as error:
            raise TableLocked(await _what_is_locked(taking.result())) from error
        finally:
            await asyncio.shield(self._start_task(self._give_back(taking)))

    async def _give_back(self, taking: asyncio.Task[AsyncConnection]) -> None:
        """Return the connection that was taken, also one that came too late."""
        taking.cancel()  # getconn survives one; no effect where it has finished
        await asyncio.wait([taking])
        if not taking.cancelled() and taking.exception() is None:
            await self.putconn(taking.result())

    async def _require_alive(self, connection: AsyncConnection) -> None:
        """Have a connection that died replaced before anyone gets it.

        A server that ends a connection, or ends itself, leaves a message there; to ask
        it each time would cost a round trip, half of what a short answer takes.
        """
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if not poll.poll(0):
            return
        try:
            await self.check_connection(connection)
        except psycopg.Error:
            # After a restart of the server the other connections are dead too. Without
            # this the pool finds them one by one, and waits longer after each.
            self._start_task(self.check())
            raise

    def _start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)  # the event loop refers to it weakly
        task.add_done_callback(self._running.discard)
        return task


async def _what_is_locked(connection: AsyncConnection) -> str:
    """Says which tables other sessions have locked, against readers too."""
    tables = []
    with suppress(psycopg.Error):
        await connection.rollback()
        rows = await connection.execute("table etl.locked_tables")
        tables = [name for (name,) in await rows.fetchall()]
    return f"another session has locked {', '.join(tables) or 'a table'}"


async def reset_session(connection: AsyncConnection) -> None:
    """What a run leaves in a session goes when it comes back to its pool: locks, and
    what SQL files of a pipeline may have set or made there, as temporary tables.
    """
    await connection.execute(
        "reset role; reset all; select pg_advisory_unlock_all(), etl.discard_temp()"
    )
    await configure(connection, RUN_SETTINGS)
