"""A pool of connections that loses none, whenever those who use one are cancelled.

Knows how a connection is taken and given back, and nothing of what it is used for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool


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
