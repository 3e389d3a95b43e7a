"""How many requests of a kind are in progress at once, and how many of one client.

Knows clients by address, and nothing of what they ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from etl.errors import RequestError
from etl.http.addresses import client_network


class Quota:
    """Room for ``most`` requests, for half of them of one client; ``what`` they are."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._clients: Counter[str | None] = Counter()

    @contextmanager
    def room(self, request: web.Request) -> Iterator[None]:
        """For a request, while in here. Raises RequestError, a 503, where none is."""
        client = client_network(request)
        if self._clients[client] >= max(1, self._most // 2):
            raise self._refusal(self._clients[client], "for your address")
        if self._clients.total() >= self._most:
            raise self._refusal(self._most, "for all clients")
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            self._clients += Counter()  # forgets those that have none

    def _refusal(self, number: int, whose: str) -> RequestError:
        return RequestError(
            f"{number} {self._what} are in progress {whose}, which is the most: try"
            " again in a moment",
            503,
        )
