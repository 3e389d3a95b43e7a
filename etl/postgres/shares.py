"""How many connections of a pool one client may use at once; further queries wait.

Knows clients by any name, and nothing of what they ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from etl.errors import RequestError

#: Seconds that a request waits for a connection before it answers 503.
POOL_WAIT_SECONDS = 3


class Shares:
    """Lets each client have ``most`` queries in progress."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Those of clients that have none in progress go by themselves.
        self._free: WeakValueDictionary[Hashable, asyncio.Semaphore]
        self._free = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, client: Hashable) -> AsyncIterator[None]:
        """One query of a client, while in here; first waits until it may begin.

        Raises RequestError, a 503, where that takes too long.
        """
        free = self._free.get(client)
        if free is None:
            free = self._free[client] = asyncio.Semaphore(self._most)
        try:
            async with asyncio.timeout(POOL_WAIT_SECONDS):
                await free.acquire()
        except TimeoutError:
            raise RequestError(
                f"no more queries than {self._most} are answered for your address at"
                " once: try again in a moment",
                503,
            ) from None
        try:
            yield
        finally:
            free.release()
