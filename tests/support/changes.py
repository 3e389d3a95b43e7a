"""One service whose files change step by step, and after each step a comparison with
another service that has no history: its database is new.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random

from aiohttp.test_utils import TestClient, TestServer
from psycopg import AsyncConnection

from etl.api.app_keys import RUNNER
from etl.api.routes import create_app
from etl.postgres import pools
from etl.settings import PROJECT, RejectLimit, Settings
from tests.support.citus import Citus
from tests.support.client import Client, app_of, trigger
from tests.support.csvfiles import COLUMNS, Files, new_record, replace_file
from tests.support.databases import Postgres, new_database
from tests.support.disturbances import (
    BY_HAND,
    ENDS,
    OF_PLAIN_POSTGRES,
    crash,
    held_back,
    stop,
)
from tests.support.edits import EDITS
from tests.support.formats import FORMAT_EDITS
from tests.support.fromnothing import FromNothing
from tests.support.outcomes import Features, Outcome, outcome_of
from tests.support.sqledits import SQL_EDITS

#: A step is the name of what it does, and the seed of the choices that it makes.
Step = tuple[str, int]

#: Share of the steps after which no run follows: the next one has several changes.
WITHOUT_A_RUN = 0.2

TIME_ZONES = ("UTC", "Pacific/Kiritimati", "Etc/GMT+12")

LIMITS = ("100%", "100%", "60%", "30%", "3")


class Difference(AssertionError):
    """A run left something else than a run from nothing; the message is a diff."""


class World:
    """The service, its files and its database, and the steps that change them."""

    def __init__(self, postgres: Postgres, settings: Settings, count: Counter[str]):
        self._postgres = postgres
        self._settings = settings
        self._count = count
        self._stack = AsyncExitStack()
        self._files = Files()
        self._from_nothing = FromNothing(postgres, count)
        self._can_crash = postgres.is_superuser and not isinstance(postgres, Citus)
        self.has_failed = False
        #: Rows were changed by hand where nothing notes it: the next run is full.
        self._needs_full = False
        self.log: list[str] = []

    async def __aenter__(self) -> World:
        for name in ("data_dir", "sql_dir"):
            shutil.rmtree(getattr(self._settings, name), ignore_errors=True)
        self._settings.data_dir.mkdir(parents=True)
        shutil.copytree(PROJECT / "sql", self._settings.sql_dir)
        self._stack.callback(pools.RUN_SETTINGS.update, timezone="UTC")
        database = self._stack.enter_context(new_database(self._postgres))
        self._settings = replace(self._settings, database=database)
        connecting = AsyncConnection.connect(database, autocommit=True)
        self._connection = await self._stack.enter_async_context(await connecting)
        self._client = await self._start_service()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._stack.aclose()

    async def perform(self, step: Step) -> None:
        """Take a step and, after most, run and compare. Raises Difference."""
        name, number = step
        rng = Random(number)
        self._files.keep()
        self.log.append(f"{name}:{number}")
        line = len(self.log) - 1
        if edit := _EDITS_BY_NAME.get(name):
            said = edit(self._files, rng)
            self._files.write(self._settings.data_dir, rng)
        elif sql_edit := _SQL_EDITS_BY_NAME.get(name):
            said = sql_edit(self._settings.sql_dir, rng)
        else:
            said = await _OTHERS_BY_NAME[name](self, rng)
        self.log[line] += f"  {said}"
        if name == "fill" or rng.random() >= WITHOUT_A_RUN:
            allows_empty = {"allow_empty": "true"} if rng.random() < 0.2 else {}
            await self._compare(allows_empty)

    async def _start_service(self) -> Client:
        client = TestClient(TestServer(create_app(self._settings)))
        await client.start_server()
        return client

    async def _compare(self, parameters: dict[str, str]) -> None:
        """Run, and require what a run from nothing over the same files leaves.

        (A run over the files of the last success would publish the same rows too, but
        takes longer, and has what ran then at hand, such as the rules that found
        something. With allow_empty in every run, no step would trip those checks.)
        """
        if self._needs_full:
            parameters = {**parameters, "full": "true"}
        before = await Features.of(self._client)
        fresh = await self._from_nothing.outcome(
            self._settings,
            self._connection,
            {name: value for name, value in parameters.items() if name != "full"},
        )
        outcome = await outcome_of(self._client, self._connection, parameters)
        self.has_failed = not outcome.has_succeeded
        self._needs_full = self._needs_full and self.has_failed
        said = outcome.left.get("error") or "succeeded"
        self.log.append(f"    run {parameters or ''}: {said}")
        self._add_counts(outcome)
        if lines := outcome.differences(fresh):
            raise Difference("\n".join(lines))
        publishes = outcome.has_succeeded and parameters.get("dry_run") != "true"
        if not publishes and (after := await Features.of(self._client)) != before:
            raise Difference(f"features were {before}\nand are {after}")

    def _add_counts(self, outcome: Outcome) -> None:
        """Count what was compared, to see that all of it occurs."""
        error = str(outcome.left.get("error", ""))
        self._count[f"status {outcome.status}"] += 1
        self._count["rejects"] += len(outcome.left.get("rejects", ()))
        if outcome.has_succeeded:
            self._count["unchanged"] += bool(outcome.run.get("unchanged"))
            for file in outcome.run["files"]:
                self._count[f"load {file.get('load')}"] += 1
            for step in outcome.run["steps"]:
                self._count["steps kept"] += bool(step.get("kept"))
        else:
            self._count[f"error {error[:40]}"] += 1

    # Steps that change no file.

    async def fill(self, rng: Random) -> str:
        for table in COLUMNS:
            for _ in range(rng.randint(0, 8)):
                record = new_record(rng, self._files.tables, table)
                self._files.tables[table].records.append(record)
        self._files.write(self._settings.data_dir, rng)
        return "the first records"

    async def nothing(self, rng: Random) -> str:
        return "nothing"

    async def touch_files(self, rng: Random) -> str:
        for path in self._settings.data_dir.iterdir():
            path.touch()
        return "every file has another time"

    async def copy_files(self, rng: Random) -> str:
        for path in self._settings.data_dir.iterdir():
            replace_file(path, path.read_bytes())
        return "every file is replaced by its copy"

    async def dry_run(self, rng: Random) -> str:
        await self._compare({"dry_run": "true"})
        return "a dry run"

    async def full_run(self, rng: Random) -> str:
        await self._compare({"full": "true"})
        return "a full run"

    async def change_tables(self, rng: Random) -> str:
        statements = rng.sample(BY_HAND, rng.choice([1, 1, 2]))
        for statement in statements:
            await self._connection.execute(statement.encode())
            # Else the server may count the rows a second later.
            await self._connection.execute("select pg_stat_force_next_flush()")
        self._needs_full = isinstance(self._postgres, Citus)
        return f"by hand: {'; '.join(statements)}"

    async def crash(self, rng: Random) -> str:
        """Postgres crashes between two runs; often somebody then writes by hand."""
        if not self._can_crash:
            return "nothing"
        await crash(self._connection)
        if rng.random() < 0.5:
            return f"a crash, {await self.change_tables(rng)}"
        return "a crash"

    async def set_clock(self, rng: Random) -> str:
        """Another time zone of the runs, which is another date for some."""
        zone = rng.choice(TIME_ZONES)
        pools.RUN_SETTINGS["timezone"] = zone
        await self._restart()
        return f"the time zone is {zone}"

    async def restart(self, rng: Random) -> str:
        limit = rng.choice(LIMITS)
        parsed = RejectLimit.parse(limit)
        keep = rng.choice([1, 2, 100])
        self._settings = replace(self._settings, keep_runs=keep, max_rejects=parsed)
        await self._restart()
        return f"restarted with MAX_REJECTS={limit} KEEP_RUNS={keep}"

    async def _restart(self) -> None:
        await self._client.close()
        self._client = await self._start_service()

    async def interrupt(self, rng: Random) -> str:
        """End or disturb a run, where it waits for a table or after some turns of the
        loop.
        """
        ends = [*ENDS, *OF_PLAIN_POSTGRES] if self._can_crash else ENDS
        end, parameters = rng.choice(ends), {"wait": "false"}
        if rng.random() < 0.1:
            parameters["dry_run"] = "true"
        before = await Features.of(self._client)
        async with held_back(str(self._settings.database), rng) as (wait, where):
            number = (await trigger(self._client, 202, **parameters))["run"]["id"]
            run = app_of(self._client)[RUNNER].running(number)
            if run is not None:
                await wait(run)
                await end(self._client, self._connection, number)
        if run is not None:
            async with asyncio.timeout(60):
                await run.done.wait()
        if end is stop:
            self._client = await self._start_service()
        state = run.summary["state"] if run else "over"
        phase = run.phase if run else None
        self._count[f"{end.__name__} in {phase}: {state}"] += 1
        if state != "succeeded" and run and await Features.of(self._client) != before:
            raise Difference("an interrupted run has published")
        return f"{end.__name__} {where}, in {phase}: {state}"


_ALL_EDITS = {**EDITS, **FORMAT_EDITS}
_EDITS_BY_NAME = {edit.__name__: edit for edit in _ALL_EDITS}
_SQL_EDITS_BY_NAME = {f"sql_{edit.__name__}": edit for edit in SQL_EDITS}

#: The steps that change no file, and how frequent each is.
_OTHERS = {
    World.nothing: 5,
    World.touch_files: 2,
    World.copy_files: 2,
    World.dry_run: 4,
    World.full_run: 3,
    World.change_tables: 9,
    World.crash: 4,
    World.set_clock: 2,
    World.restart: 4,
    World.interrupt: 10,
    World.fill: 0,
}
_OTHERS_BY_NAME = {other.__name__: other for other in _OTHERS}

#: All steps by name, and how frequent each is.
WEIGHTS = {
    **{name: _ALL_EDITS[edit] for name, edit in _EDITS_BY_NAME.items()},
    **{name: SQL_EDITS[edit] for name, edit in _SQL_EDITS_BY_NAME.items()},
    **{name: _OTHERS[other] for name, other in _OTHERS_BY_NAME.items()},
}

#: After a failure one of these is as likely as all others together: most runs are to
#: succeed.
REPAIRS = ("fix_all", "sql_restore", "go_back", "restart")


def next_step(rng: Random, after_failure: bool) -> Step:
    """A step at random."""
    if after_failure and rng.random() < 0.5:
        name = rng.choice(REPAIRS)
    else:
        name = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return name, rng.randrange(10**6)
