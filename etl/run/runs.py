"""One run from lock to publish, its record and its progress.

Knows the order of the phases, and nothing of what the SQL files do in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from functools import partial

import psycopg
from psycopg import AsyncConnection, OperationalError
from psycopg_pool import PoolTimeout

from etl.errors import (
    Cancelled,
    DatabaseAway,
    Interrupted,
    RunFault,
)
from etl.logs import RUN
from etl.postgres.database import Database
from etl.postgres.migrations import is_migrating
from etl.postgres.sqlerrors import one_line
from etl.run.faults import INTERRUPTED, fault_of, log_end
from etl.run.full_disk import DiskFull, explain, give_back_space
from etl.run.phases import enter, run_phases
from etl.run.publishing import publish
from etl.run.records import Record, Run, note, read_runs, value_of
from etl.run.workers import attached_workers
from etl.settings import Settings

#: Looks at the record of a run that another server is beginning, and seconds between.
RECORD_TRIES, RECORD_PAUSE_SECONDS = 20, 0.05

#: Seconds that a stop waits for the end of the run that it interrupts.
STOP_SECONDS = 3.0

#: What is answered while no run can begin for that.
MIGRATING = "another server's start is changing the schema: try again in a moment"

#: A run, the connection that leads it, and what gives that connection back.
Begun = tuple[Run, AsyncConnection, AsyncExitStack]

log = logging.getLogger(__name__)


class RunUnderWay(Exception):
    """Another run has the lead; ``record`` is its record, None if it just ended."""

    def __init__(self, record: Record | None) -> None:
        super().__init__("a run is under way")
        self.record = record


class Runner:
    """Starts runs, one at a time, and sees them to their end whoever waits for them.

    ``on_end`` is told of each when it is over, before who waits for it.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        on_end: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._on_end = on_end
        self._begin_turn = asyncio.Lock()
        self._is_stopping = False
        self._run: Run | None = None
        self._work_task: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    async def start(self, *, dry: bool = False, overrides: Collection[str] = ()) -> Run:
        """Begin a run, a dry one does not publish, and return while it goes on.

        With one of the ``overrides``, a check that names it in its header only warns.
        Raises RunUnderWay where this or another server has one, DatabaseAway, and
        Interrupted once the service is being stopped.
        """
        async with self._begin_turn:
            if self._is_stopping:
                raise Interrupted("the service is being stopped: it begins no run")
            if self._run is not None and not self._run.done.is_set():
                if not await self._is_over(self._run):
                    raise RunUnderWay(self._run.record)
                await self._run.done.wait()
            try:
                run, lead, held = await self._begin_or_find(dry, frozenset(overrides))
            except (OperationalError, PoolTimeout) as error:
                words = f"the database is away: {one_line(error)}"
                raise DatabaseAway(words) from error
            self._run = run
            context = copy_context()
            context.run(RUN.set, run.id)  # for the log lines of its tasks
            self._work_task = asyncio.create_task(
                self._work(run, lead), context=context
            )
            self._task = asyncio.create_task(
                self._see_through(run, lead, held, self._work_task), context=context
            )
            if self._is_stopping:
                await self.stop()
            return run

    @property
    def is_running(self) -> bool:
        """Whether a run of this process is in progress."""
        return self._run is not None and not self._run.done.is_set()

    def running(self, number: int) -> Run | None:
        """The run of this number, where this process leads it now."""
        run = self._run
        return run if run and run.id == number and not run.done.is_set() else None

    async def settled(self) -> None:
        """Wait while a run begins: it is on record a moment before it is known here."""
        async with self._begin_turn:
            pass

    async def tidied(self) -> None:
        """Wait until what follows a run is done too."""
        if self._tidying is not None:
            await asyncio.wait([self._tidying])

    def cancel(self, run: Run) -> bool:
        """Tell a run to end; False where there is nothing left of it to end.

        Its record tells what came of it: it may be publishing this very moment.
        """
        return self._end_early(run, Cancelled("cancelled"))

    async def stop(self) -> None:
        """Begin no more runs, interrupt the one in progress, if any, and wait until
        that is on record, but not for ever.
        """
        self._is_stopping = True
        if self._run is not None:
            self._end_early(self._run, Interrupted(INTERRUPTED))
        if self._tidying is not None:
            self._tidying.cancel()
        if tasks := [task for task in (self._task, self._tidying) if task]:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)

    def _is_ending(self, run: Run) -> bool:
        """Whether the last run has nothing left to do but to put its end on record."""
        work_is_done = self._work_task is not None and self._work_task.done()
        return work_is_done or run.record["state"] != "running"

    async def _is_over(self, run: Run) -> bool:
        """Whether the last run is ending, or is over for who reads its record: that is
        there a moment before it is known here.
        """
        if self._is_ending(run):
            return True
        try:
            async with self._database.readers.connection() as connection:
                records = await read_runs(connection, run.id)
        except (OperationalError, PoolTimeout):
            return False
        return all(record["state"] != "running" for record in records)

    def _end_early(self, run: Run, why: RunFault) -> bool:
        if run is not self._run or self._work_task is None or self._is_ending(run):
            return False
        if run.ended_by is None:  # a second word must not disturb the end
            run.ended_by = why
            self._work_task.cancel()
        return True

    async def _begin_or_find(self, dry: bool, overrides: frozenset[str]) -> Begun:
        """Begin a run, or raise RunUnderWay with the run of another server.

        Its row comes right after the lock, and the lock goes right after its row. A
        start of another server that changes the schema has the lock as well: mostly it
        is soon done, otherwise DatabaseAway is raised.
        """
        for _ in range(RECORD_TRIES):
            begun = await self._begin(dry, overrides)
            if begun is not None:
                return begun
            async with self._database.readers.connection() as connection:
                is_waiting_for_schema = await is_migrating(connection)
                if not is_waiting_for_schema:
                    for record in await read_runs(connection):
                        if record["state"] == "running":
                            raise RunUnderWay(record)
            await asyncio.sleep(RECORD_PAUSE_SECONDS)
        if is_waiting_for_schema:
            raise DatabaseAway(MIGRATING)
        raise RunUnderWay(None)

    async def _begin(self, dry: bool, overrides: frozenset[str]) -> Begun | None:
        """Take the lead and begin a run; None where another server has the lead."""
        async with AsyncExitStack() as stack:
            pool = self._database.runners
            lead = await stack.enter_async_context(pool.connection())
            flags = [dry, "allow_empty" in overrides]
            number = await value_of(lead, "select etl.begin_run(%s, %s)", *flags)
            if number is None:
                return None
            run = Run(number, dry, {}, overrides)
            await enter(run, lead, "load")
            return run, lead, stack.pop_all()

    async def _see_through(
        self,
        run: Run,
        lead: AsyncConnection,
        held: AsyncExitStack,
        work: asyncio.Task[None],
    ) -> None:
        """Wait until the run is published, or on record as failed or interrupted, and
        give the lead back, which ``held`` does.
        """
        state = "succeeded"
        try:
            await work
        except (Exception, asyncio.CancelledError) as error:
            # One that is told to end may well fail on its way to it.
            run.fault = run.ended_by or fault_of(run, error)
            if isinstance(run.fault, DatabaseAway):
                run.fault = await explain(run, self._settings, run.fault)
            is_interrupted = isinstance(run.fault, Interrupted)
            state = "interrupted" if is_interrupted else "failed"
        try:
            async with held:
                if run.record["state"] == "running":
                    await self._record_end(run, lead, state)
                if run.record["state"] == "succeeded":
                    run.fault = None  # also where it was told to end, or lost, after it
                log_end(run)
        finally:
            self._on_end(run)
            run.done.set()
        if not self._is_stopping:
            self._tidying = asyncio.create_task(self._tidy_up(vacuum=not run.dry))

    async def _record_end(self, run: Run, lead: AsyncConnection, state: str) -> None:
        """Put the end on record; where that fails, others see the run interrupted."""
        reason = str(run.fault) if run.fault else None
        try:
            async with self._connection(lead) as connection:
                if run.fault is not None:
                    await connection.execute("select etl.end_remains(%s)", [run.id])
                if isinstance(run.fault, DiskFull):
                    await give_back_space(connection, self._settings)
                await note(connection, run)
                await connection.execute(
                    "select etl.end_run(%s, %s, %s)", [run.id, state, reason]
                )
                run.record = await note(connection, run)
        except (psycopg.Error, PoolTimeout) as error:
            log.error("run %d: its end is not on record: %s", run.id, one_line(error))
            ended = "interrupted" if reason else state
            run.record = {**run.record, "state": ended, "error": reason}

    @asynccontextmanager
    async def _connection(
        self, lead: AsyncConnection
    ) -> AsyncIterator[AsyncConnection]:
        """The lead while it lives, else another connection."""
        async with AsyncExitStack() as stack:
            try:
                await lead.rollback()  # what was told to end may have just said begin
                await self._database.runners.check_connection(lead)
            except psycopg.Error:
                pool = self._database.runners
                lead = await stack.enter_async_context(pool.connection())
            yield lead

    async def _work(self, run: Run, lead: AsyncConnection) -> None:
        """All phases, from the files to the table."""
        settings = self._settings
        count = max(settings.load_workers, settings.build_workers)
        async with attached_workers(self._database.runners, run.id, count) as workers:
            await run_phases(
                *(run, settings, lead, workers),
                None if run.dry else partial(publish, run, lead),
            )

    async def _tidy_up(self, *, vacuum: bool) -> None:
        """After the answer: forget old runs, and clear away rows that were replaced."""
        try:
            async with self._database.runners.connection() as connection:
                keep = [self._settings.keep_runs]
                await connection.execute("select etl.keep_runs(%s)", keep)
                if vacuum:
                    await connection.execute("vacuum (analyze, skip_locked) features")
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("tidying up after a run: %s", one_line(error))
