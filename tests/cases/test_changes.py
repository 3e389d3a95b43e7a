"""A run leaves exactly what a run from nothing over the same files and SQL would leave.

One service runs again and again while its files, its SQL and its tables change, and
runs fail, are cancelled and killed. After each step it is compared with a service
whose database is new. ``CHANGES_STEPS=5000`` takes so many steps, ``CHANGES_SEED=7``
others, and ``CHANGES_REPLAY`` those that a failure has printed.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from etl.settings import RejectLimit, Settings
from tests.support.changes import Difference, Step, World, next_step
from tests.support.databases import Postgres

#: Steps of a service: enough for a history, and few enough to read.
STEPS_OF_A_SERVICE = 12
SERVICES_IN_THE_SUITE = 5
STEPS = int(os.environ.get("CHANGES_STEPS", SERVICES_IN_THE_SUITE * STEPS_OF_A_SERVICE))
IS_LONG = "CHANGES_STEPS" in os.environ
LENGTH = 30 if IS_LONG else STEPS_OF_A_SERVICE
FIRST_SEED = int(os.environ.get("CHANGES_SEED", "1"))

#: Attempts to find fewer steps that fail.
ATTEMPTS = 40

#: Steps that are taken each time, as a failure prints them. The first ones are one of
#: each kind that is most easily got wrong.
KEPT = [
    "fill:2 nothing:1 append:3 add_bad_record:4 nothing:3 add_duplicate:5 append:6"
    " remove_first_duplicate:7 add_experiment_of_unknown_user:8 nothing:2"
    " add_unknown_user:9 remove_user:10 return_user:11 spoil_record:12 fix_record:13"
    " drop_last_newline:14 append_in_the_last_line:15 cut_in_a_record:16 fix_all:17"
    " change_tables:18 sql_read_clock:19 set_clock:20 interrupt:21 dry_run:22",
    # A run that failed after it had put records back, and then nothing has changed.
    "fill:187444 sql_restore:390356 sql_add_comment:196850 sql_restore:308971"
    " interrupt:694432",
    # A file of the build that wrote to a table beside another one is removed.
    "fill:21170 sql_add_or_remove:379312 sql_restore:999237",
]
if "CHANGES_REPLAY" in os.environ:
    KEPT.append(os.environ["CHANGES_REPLAY"])


#: A difference or another error, and what the steps did that made it.
Found = tuple[Exception, list[str]]


class Machine:
    """Takes steps, at random or given ones, each time with a new service."""

    def __init__(self, postgres: Postgres, folder: Path, count: Counter[str]) -> None:
        self.postgres = postgres
        self.count = count
        self.settings = Settings(
            port=0,
            data_dir=folder / "data",
            sql_dir=folder / "sql",
            load_workers=2,
            build_workers=2,
            max_rejects=RejectLimit.parse("100%"),
        )

    async def take(self, seed: int, length: int) -> None:
        """Take steps at random; fail with those that made a difference."""
        rng = Random(seed)
        steps: list[Step] = []
        async with World(self.postgres, self.settings, self.count) as world:
            try:
                for number in range(length):
                    step = next_step(rng, world.has_failed)
                    steps.append(step if number else ("fill", step[1]))
                    await world.perform(steps[-1])
                return
            except Exception as found:
                difference, log = found, world.log
        steps, difference, log = await self.fewer(steps, difference, log)
        raise AssertionError(report(f"seed {seed}", steps, difference, log))

    async def replay(self, steps: Sequence[Step]) -> Found | None:
        """Take these steps; the difference that they made, and what they did."""
        async with World(self.postgres, self.settings, Counter()) as world:
            try:
                for step in steps:
                    await world.perform(step)
            except Exception as difference:
                return difference, world.log
        return None

    async def fewer(
        self, steps: list[Step], difference: Exception, log: list[str]
    ) -> tuple[list[Step], Exception, list[str]]:
        """Leave out steps as long as those that remain make a difference."""
        attempts, size = 0, max(1, len(steps) // 2)
        if not await self.replay(steps):
            log = [*log, "(taken once more, the same steps made no difference)"]
            return steps, difference, log
        while size and attempts < ATTEMPTS:
            first = len(steps) - size
            while first >= 0 and attempts < ATTEMPTS:
                attempts += 1
                rest = steps[:first] + steps[first + size :]
                if found := await self.replay(rest):
                    steps, (difference, log) = rest, found
                first -= size
            size //= 2
        return steps, difference, log


def format_error(error: Exception) -> str:
    if isinstance(error, Difference):
        return str(error)
    return "".join(traceback.format_exception(error))


def report(name: str, steps: list[Step], error: Exception, log: list[str]) -> str:
    replayed = " ".join(f"{step}:{number}" for step, number in steps)
    lines = [f"{name}: a run left something else than a run from nothing", *log]
    return "\n".join([*lines, f"CHANGES_REPLAY='{replayed}'", format_error(error)])


@pytest.fixture(scope="module")
def count() -> Iterator[Counter[str]]:
    """How often things occurred: printed at the end of many steps, with ``-s``."""
    count: Counter[str] = Counter()
    yield count
    if IS_LONG:
        print("", *(f"{count[each]:6} {each}" for each in sorted(count)), sep="\n")


@pytest.fixture
def machine(
    postgres: Postgres,
    tmp_path: Path,
    count: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> Machine:
    caplog.set_level("CRITICAL", "etl")  # most of what runs log here is meant to be
    return Machine(postgres, tmp_path, count)


@pytest.mark.timeout(0 if IS_LONG else 900)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + -(-STEPS // LENGTH)))
async def test_a_run_leaves_what_a_run_from_nothing_leaves(
    machine: Machine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:  # as with large files
        monkeypatch.setattr("etl.run.phases.block_bytes", lambda workers: 128)
        monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    await machine.take(seed, LENGTH)


@pytest.mark.parametrize("steps", KEPT)
async def test_steps_that_are_kept(machine: Machine, steps: str) -> None:
    pairs = [step.split(":") for step in steps.split()]
    replayed = [(name, int(number)) for name, number in pairs]
    if found := await machine.replay(replayed):
        pytest.fail(report("kept steps", replayed, *found))
