"""Answers the requests of many clients with few statements. Knows no statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

#: Requests that are answered by one statement at most.
MAX_BATCH = 200

#: Turns of the event loop from the arrival of a request until it waits for an answer.
TURNS_TO_JOIN = 4

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")


class DataLoader(Generic[K, Q, A]):
    """Answers the requests of many with few statements.

    While one statement is in progress, further requests of its kind wait, and then
    share the next one, up to MAX_BATCH of them, the oldest first. None is answered from
    a snapshot older than itself. A statement is cancelled when nobody waits for it any
    more.
    """

    def __init__(
        self, load: Callable[[K, Sequence[Q]], Awaitable[Sequence[A]]]
    ) -> None:
        self._load = load
        self._waiting: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._loading: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._tasks: dict[K, asyncio.Task[None]] = {}

    async def load(self, kind: K, request: Q) -> A:
        """The answer to one request."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if kind in self._waiting:
            self._waiting[kind].append((request, future))
        else:
            self._waiting[kind] = [(request, future)]
            self._start(kind)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel_if_unwanted(kind)
            raise

    def _start(self, kind: K) -> None:
        self._tasks[kind] = asyncio.create_task(self._answer(kind))

    def _cancel_if_unwanted(self, kind: K) -> None:
        """Cancel the statement in progress if nobody waits for its answers."""
        loading = self._loading.get(kind)
        if loading and all(future.cancelled() for _, future in loading):
            self._tasks[kind].cancel()

    async def _answer(self, kind: K) -> None:
        """Answer those that wait now, then start on those that have come meanwhile."""
        for _ in range(TURNS_TO_JOIN):  # requests that have arrived already join
            await asyncio.sleep(0)
        waiting = self._waiting[kind]
        batch, waiting[:] = waiting[:MAX_BATCH], waiting[MAX_BATCH:]
        self._loading[kind] = batch
        self._cancel_if_unwanted(kind)  # they may have left already
        try:
            answers = await self._load(kind, [request for request, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        finally:
            del self._loading[kind]
            for _, future in batch:
                future.cancel()  # if it is not done
            if waiting:
                self._start(kind)
            else:
                del self._waiting[kind], self._tasks[kind]
