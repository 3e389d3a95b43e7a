"""Requests that share statements: which, and when a statement is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from etl.reading.dataloader import DataLoader


class Statements:
    """Statements that end when the test says so, and the requests that each answers."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[list[int]] = asyncio.Queue()
        self.ends: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.cancelled = asyncio.Event()

    async def run(self, kind: str, requests: Sequence[int]) -> list[str]:
        self.started.put_nowait([*requests])
        try:
            error = await self.ends.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if error:
            raise error
        return [f"{kind}{request}" for request in requests]


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest.fixture
def loader(statements: Statements) -> DataLoader[str, int, str]:
    return DataLoader(statements.run)


async def test_those_that_come_meanwhile_share_the_next(
    loader: DataLoader[str, int, str], statements: Statements
) -> None:
    first = [asyncio.create_task(loader.load("a", number)) for number in (1, 2)]
    assert await statements.started.get() == [1, 2]
    later = [asyncio.create_task(loader.load("a", number)) for number in (3, 4)]
    await asyncio.sleep(0)
    assert statements.started.empty()
    statements.ends.put_nowait(ValueError("the first"))
    assert await statements.started.get() == [3, 4]
    statements.ends.put_nowait(None)
    assert await asyncio.gather(*later) == ["a3", "a4"]
    for task in first:
        with pytest.raises(ValueError, match="the first"):
            await task
    again = asyncio.create_task(loader.load("a", 5))
    assert await statements.started.get() == [5]
    statements.ends.put_nowait(None)
    assert await again == "a5"


async def test_a_statement_for_which_nobody_waits_is_cancelled(
    loader: DataLoader[str, int, str], statements: Statements
) -> None:
    """Not while one of those that share it waits; others are answered by the next."""
    one, two = (asyncio.create_task(loader.load("a", number)) for number in (1, 2))
    assert await statements.started.get() == [1, 2]
    three = asyncio.create_task(loader.load("a", 3))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    await asyncio.sleep(0)
    assert not statements.cancelled.is_set()
    two.cancel()
    await statements.cancelled.wait()
    assert await statements.started.get() == [3]
    statements.ends.put_nowait(None)
    assert await three == "a3"
