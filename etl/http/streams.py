"""Which streams of rows are in progress, and which of them ends where none is free.

Knows how many there may be and how slow a client is, and nothing of what it reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from aiohttp import web

from etl.errors import RequestError
from etl.http.addresses import network_of
from etl.postgres.database import MAX_READERS

#: Streams at once: a slow client keeps its connection to the database for long, and
#: other requests need one too. One address, or of IPv6 one /64, may have half of them:
#: behind a proxy that is not trusted, many clients share one.
MAX_STREAMS = MAX_READERS - 4
MAX_STREAMS_OF_CLIENT = MAX_STREAMS // 2

#: Seconds after which a client that still takes the same chunk of 64 KiB loses its
#: stream to one that finds none free: at 4 KiB/s. One that reads 50 KB/s has taken at
#: most 4 to take one, and 13 with 4 MiB of buffers on its side.
SLOW_SECONDS = 15.0

log = logging.getLogger(__name__)


class TooManyStreams(RequestError):
    """No stream is free; the message says whose they are."""

    status = 503


@dataclass(eq=False)
class Stream:
    """A stream in progress: to whom, in which task, and since when its client has been
    taking a chunk, by the clock of the event loop; ``inf`` while it has them all.
    """

    client: str | None
    task: asyncio.Task[Any] | None
    taking_since: float = inf


class Streams:
    """The streams in progress: so many at most, and half of them of one client."""

    def __init__(self) -> None:
        self.in_progress: list[Stream] = []

    @contextmanager
    def begin(self, client: str | None) -> Iterator[Stream]:
        """A stream in the current task.

        Where none is free, the slowest of those that are in the way is cancelled.
        Raises TooManyStreams if that one is not slow.
        """
        network = network_of(client)
        own = [each for each in self.in_progress if network_of(each.client) == network]
        if len(own) >= MAX_STREAMS_OF_CLIENT:
            self._cancel_slowest(own, "for your address")
        elif len(self.in_progress) >= MAX_STREAMS:
            self._cancel_slowest(self.in_progress, "for all clients")
        stream = Stream(client, asyncio.current_task())
        self.in_progress.append(stream)
        try:
            yield stream
        finally:
            if stream in self.in_progress:
                self.in_progress.remove(stream)

    def _cancel_slowest(self, streams: list[Stream], whose: str) -> None:
        slowest = min(streams, key=lambda each: each.taking_since)
        seconds = asyncio.get_running_loop().time() - slowest.taking_since
        if seconds < SLOW_SECONDS or slowest.task is None:
            raise TooManyStreams(
                f"{len(streams)} answers of many rows are in progress {whose}, which"
                " is the most: try again in a moment"
            )
        log.info("%s is too slow: 64 KiB took over %d s", slowest.client, seconds)
        self.in_progress.remove(slowest)
        slowest.task.cancel()


STREAMS = web.AppKey("streams", Streams)
