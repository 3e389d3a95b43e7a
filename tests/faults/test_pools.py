"""Thousands of cancellations at any moment: the pools of connections lose none."""

from __future__ import annotations

import asyncio
import random
import re
import selectors
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from psycopg import Error
from psycopg.errors import DivisionByZero

from etl.api.app_keys import DATABASE
from etl.errors import Cancelled
from etl.postgres.database import Database, open_database
from etl.postgres.pools import Pool
from etl.run.runs import Runner
from etl.settings import PROJECT, Settings
from tests.support.client import Client, trigger

#: How many users of a connection are cancelled, how many at once, and how many turns
#: of the event loop the longest of them takes, roughly.
USERS, USERS_AT_ONCE, TURNS_OF_A_USER = 3000, 12, 12

#: Runs that are cancelled, of each kind, and of those that end soonest.
RUNS, RUNS_BROKEN = 25, 75

#: Requests whose clients hang up, how many at once, and what they ask for.
REQUESTS, REQUESTS_AT_ONCE, TURNS_OF_A_REQUEST = 600, 12, 30
PATHS = (
    *("/features", "/features/1", "/features?limit=2", "/features?format=csv"),
    *("/runs", "/runs/1", "/runs/1/rejects", "/runs/1/events", "/metrics"),
    *("/charts/010_users_by_experiments", "/openapi.json", "/readyz"),
)

#: A header that lacks columns: such a run fails soon.
BROKEN = b"user_id,name\n1,Alice\n"


class Turns:
    """Counts the turns of the event loop, and acts in one of them."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.count = 0
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._select = selector.select
        selector.select = self._turn  # type: ignore[method-assign]

    def act(self, turns: int, action: Callable[[], object]) -> None:
        """Call ``action`` after so many turns."""
        self._waiting.append((self.count + turns, action))

    def forget(self) -> None:
        """Call none of those that were not called yet."""
        self._waiting.clear()

    def _turn(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += 1
        due = [each for each in self._waiting if each[0] <= self.count]
        for each in due:
            self._waiting.remove(each)
            each[1]()
        return self._select(0 if due else timeout)


@pytest.fixture
async def turns() -> Turns:
    return Turns(asyncio.get_running_loop()._selector)  # type: ignore[attr-defined]


@pytest.fixture
def dice() -> random.Random:
    """Its seed is printed where the test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed:", seed)
    return random.Random(seed)


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[Database]:
    async with open_database(settings) as database:
        yield database


async def gives_all(pool: Pool) -> None:
    """Require that the pool gives as many connections at once as it ever may."""
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(pool.connection())
            for _ in range(pool.max_size)
        ]
        for connection in connections:
            await connection.execute("select 1")
    async with asyncio.timeout(20):
        while (stats := pool.get_stats())["pool_available"] < pool.max_size:
            await asyncio.sleep(0.01)
    assert stats["pool_size"] == pool.max_size
    assert stats["requests_waiting"] == 0


#: What somebody may do: read, fail, leave a transaction open.
STATEMENTS = (b"select 1", b"", b"select 1 / 0", b"begin; select 1")


async def use(pool: Pool, kind: int) -> None:
    """Take a connection and execute one of the statements."""
    with suppress(DivisionByZero):
        async with pool.connection() as connection:
            await connection.execute(STATEMENTS[kind])


@pytest.mark.parametrize("name", ["readers", "runners"])
async def test_users_are_cancelled(
    opened: Database, name: str, turns: Turns, dice: random.Random
) -> None:
    """Once or again, also while they wait for a connection or give it back."""
    pool: Pool = getattr(opened, name)
    await pool.resize(1, 4)
    users: set[asyncio.Task[None]] = set()
    for _ in range(USERS):
        user = asyncio.create_task(use(pool, dice.randrange(len(STATEMENTS))))
        users.add(user)
        for _ in range(dice.choice((1, 1, 2, 3))):
            turns.act(dice.randrange(TURNS_OF_A_USER), user.cancel)
        if len(users) >= USERS_AT_ONCE:
            async with asyncio.timeout(20):
                _, users = await asyncio.wait(
                    users, return_when=asyncio.FIRST_COMPLETED
                )
    await asyncio.wait(users, timeout=20)
    assert all(user.done() for user in users)
    await gives_all(pool)


async def test_runs_are_cancelled(
    opened: Database,
    settings: Settings,
    data_dir: Path,
    turns: Turns,
    dice: random.Random,
) -> None:
    """Good ones, dry ones, and some of a broken file, until after their end."""
    runner = Runner(opened, settings)
    users = data_dir / "users.csv"
    contents = {"good": users.read_bytes(), "dry": users.read_bytes(), "broken": BROKEN}
    turns_of_a_run: dict[str, int] = {}
    kinds = [*RUNS * ["good", "dry"], *RUNS_BROKEN * ["broken"]]
    for kind in [*contents, *dice.sample(kinds, len(kinds))]:
        users.write_bytes(contents[kind])
        async with asyncio.timeout(20):
            run = await runner.start(dry=kind == "dry")
        began = turns.count
        if kind in turns_of_a_run:
            moment = int(turns_of_a_run[kind] * dice.random() ** 0.5)  # mostly late
            turns.act(moment, partial(run.end_early, Cancelled("cancelled")))
        async with asyncio.timeout(20):
            await run.done.wait()
        error = run.summary["error"]
        assert error in (None, "cancelled") or (kind == "broken" and "lacks" in error)
        turns_of_a_run.setdefault(kind, turns.count - began)
        turns.forget()
    with suppress(Error):
        await runner.wait_for_cleanup()
    await gives_all(opened.runners)


async def test_clients_hang_up(
    client: Client, turns: Turns, dice: random.Random
) -> None:
    await trigger(client)

    async def ask(path: str) -> None:
        async with client.get(path) as response:
            await response.read()

    asking: set[asyncio.Task[None]] = set()
    for _ in range(REQUESTS):
        request = asyncio.create_task(ask(dice.choice(PATHS)))
        asking.add(request)
        turns.act(dice.randrange(TURNS_OF_A_REQUEST), request.cancel)
        if len(asking) >= REQUESTS_AT_ONCE:
            async with asyncio.timeout(20):
                _, asking = await asyncio.wait(
                    asking, return_when=asyncio.FIRST_COMPLETED
                )
    await asyncio.wait(asking, timeout=20)
    await gives_all(client.app[DATABASE].readers)


def test_connections_are_taken_by_connection_alone() -> None:
    """What is taken otherwise would have to be given back under any cancellation."""
    for path in (PROJECT / "etl").rglob("*.py"):
        if path.name != "pools.py":
            assert not re.findall(r"\.(?:getconn|putconn)\b", path.read_text()), path
