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
    share the next one: none waits for more than one before its own, and none is
    answered from a snapshot older than itself. A statement is cancelled when nobody
    waits for it any more.
    """

    def __init__(
        self, load: Callable[[K, Sequence[Q]], Awaitable[Sequence[A]]]
    ) -> None:
        self._load = load
        self._waiting: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, kind: K, request: Q) -> A:
        """The answer to one request."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if kind in self._waiting:
            self._waiting[kind].append((request, future))
        else:
            self._waiting[kind] = [(request, future)]
            self._start(kind)
        return await future

    def _start(self, kind: K) -> None:
        task = asyncio.create_task(self._answer(kind))
        self._tasks.add(task)  # the event loop refers to it weakly
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, kind: K) -> None:
        """Answer those that wait now, then start on those that have come meanwhile."""
        for _ in range(TURNS_TO_JOIN):  # requests that have arrived already join
            await asyncio.sleep(0)
        waiting = self._waiting[kind]
        batch, waiting[:] = waiting[:MAX_BATCH], waiting[MAX_BATCH:]
        task = asyncio.current_task()

        def cancel_if_unwanted(_: asyncio.Future[A]) -> None:
            if task and all(future.cancelled() for _, future in batch):
                task.cancel()

        for _, future in batch:
            future.add_done_callback(cancel_if_unwanted)
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
            for _, future in batch:
                future.cancel()  # if it is not done
            if waiting:
                self._start(kind)
            else:
                del self._waiting[kind]
