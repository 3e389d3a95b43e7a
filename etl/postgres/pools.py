"""A pool of connections that loses none, whenever those who use one are cancelled.

Knows how a connection is taken and given back, and nothing of what it is used for.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from etl.postgres.sessions import configure as configure_session

#: Seconds that a request waits for a connection before it answers 503.
POOL_WAIT_SECONDS = 3


class Pool(AsyncConnectionPool[AsyncConnection]):
    """A pool whose connections are taken by ``connection()`` alone.

    ``getconn`` and ``putconn`` wait for locks, for other tasks and for the server. A
    cancellation that arrives there can lose the connection, and a second one, while a
    client waits in the queue, can block the whole pool (``asyncio.wait_for`` up to
    Python 3.11). So each runs in a task of its own, which the cancellation of the
    caller does not reach.
    """

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__(conninfo, **options)
        self._returning: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def connection(
        self, timeout: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A connection while in here; the pool rolls back what is left open on it.

        Raises PoolTimeout after ``timeout`` seconds, by default the pool's own.
        """
        taking = asyncio.create_task(self.getconn(timeout))
        try:
            yield await asyncio.shield(taking)
        finally:
            returning = asyncio.create_task(self._give_back(taking))
            self._returning.add(returning)  # the event loop refers to it weakly
            returning.add_done_callback(self._returning.discard)
            await asyncio.shield(returning)

    async def _give_back(self, taking: asyncio.Task[AsyncConnection]) -> None:
        """Return the connection that was taken, also one that came too late."""
        taking.cancel()  # once, which getconn stands; no effect where it has finished
        await asyncio.wait([taking])
        if not taking.cancelled() and taking.exception() is None:
            await self.putconn(taking.result())


@asynccontextmanager
async def open_pool(
    conninfo: str,
    session: Mapping[str, str],
    kept: int,
    most: int,
    reset: Callable[[AsyncConnection], Awaitable[None]] | None = None,
) -> AsyncIterator[Pool]:
    """A pool of ``kept`` to ``most`` connections with the settings of ``session``."""

    async def configure(connection: AsyncConnection) -> None:
        await configure_session(connection, session)

    replacing: set[asyncio.Task[None]] = set()

    async def check(connection: AsyncConnection) -> None:
        if not _has_word(connection):
            return
        try:
            await Pool.check_connection(connection)
        except psycopg.Error:
            # After a restart of the server its neighbours are dead too. Left to itself
            # the pool finds them one by one, and waits longer after each.
            task = asyncio.create_task(pool.check())
            replacing.add(task)
            task.add_done_callback(replacing.discard)
            raise

    pool = Pool(
        conninfo,
        kwargs={"autocommit": True, "connect_timeout": POOL_WAIT_SECONDS},
        min_size=kept,
        max_size=most,
        open=False,
        configure=configure,
        reset=reset,
        # a connection that died since is replaced before anyone gets it
        check=check,
        timeout=POOL_WAIT_SECONDS,
        # short, so that the next request tries again as soon as it may be back
        reconnect_timeout=POOL_WAIT_SECONDS,
    )
    async with pool:
        yield pool


def _has_word(connection: AsyncConnection) -> bool:
    """Whether the server has sent something unasked, or hung up, since the last answer.

    A server that ends a connection, or ends itself, leaves its last word there; to ask
    it each time would cost a round trip, half of what a short answer takes.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def release_locks(connection: AsyncConnection) -> None:
    """What a connection held for a run goes when it comes back to its pool."""
    await connection.execute(
        "select pg_advisory_unlock_all(),"
        " set_config('etl.slice', '', false), set_config('etl.slices', '', false)"
    )
