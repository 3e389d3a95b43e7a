"""Runs, one at a time, from their beginning to their recorded end.

Knows who may begin a run and what ends it, and nothing of what its phases do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, suppress

import psycopg
from psycopg import AsyncConnection, OperationalError, sql
from psycopg_pool import PoolTimeout

from etl.errors import (
    DatabaseUnavailable,
    DiskFull,
    Interrupted,
    RunFault,
    ServiceFault,
)
from etl.logs import RUN
from etl.postgres.database import Database
from etl.postgres.migrations import is_migrating
from etl.postgres.sqlerrors import one_line
from etl.run.faults import INTERRUPTED, fault_of, give_back_space
from etl.run.kept import FEATURES
from etl.run.phases import run_phases
from etl.run.records import Run, RunSummary, save_run
from etl.settings import Settings

#: Attempts to begin while another server has the lead, but its run has not begun or has
#: just ended, and the seconds between them.
BEGIN_TRIES, BEGIN_PAUSE_SECONDS = 20, 0.05

#: Seconds that a stop waits for the end of the run that it interrupts.
STOP_SECONDS = 3.0

#: Seconds between two looks at which lock the run waits for: some, while it waits.
LOOK_SECONDS = 5.0

#: Why no run can begin while another server has the lead to change the schema.
MIGRATING = "another server's start is changing the schema: try again in a moment"

log = logging.getLogger(__name__)


class RunInProgress(Exception):
    """Another run has the lead; ``summary`` is None if it has just ended."""

    def __init__(self, summary: RunSummary | None) -> None:
        super().__init__("a run is in progress")
        self.summary = summary


class Runner:
    """Starts runs, one at a time, and completes them whoever waits for them.

    ``on_end`` is called with each that has ended, before those who wait for it resume.
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
        self._starting = asyncio.Lock()
        self._is_stopping = False
        self._run: Run | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._cleanup: asyncio.Task[None] | None = None

    async def start(
        self, *, dry: bool = False, full: bool = False, allow_empty: bool = False
    ) -> Run:
        """Begin a run, a dry one does not publish, and return while it continues.

        A full one does everything from nothing, whatever was kept. With
        ``allow_empty``, a check that names it in its header only warns. Raises
        RunInProgress if this or another server has one, DatabaseUnavailable, and
        Interrupted once the service is being stopped.
        """
        async with self._starting:
            if self._is_stopping:
                raise Interrupted("the service is being stopped: it begins no run")
            if current := self.current:
                if not current.is_ending:
                    raise RunInProgress(current.summary)
                await current.done.wait()
            try:
                run = self._run = await self._begin(dry, full, allow_empty)
            except (OperationalError, PoolTimeout) as error:
                message = f"the database is unavailable: {one_line(error)}"
                raise DatabaseUnavailable(message) from error
            if self._is_stopping:
                await self.stop()
            return run

    @property
    def current(self) -> Run | None:
        """The run of this process that is in progress."""
        return self._run if self._run and not self._run.done.is_set() else None

    def running(self, number: int) -> Run | None:
        """The run of this number, if this process leads it now."""
        return self.current if self.current and self.current.id == number else None

    async def wait_until_started(self) -> None:
        """Wait while a run begins: the database has it a moment before ``running``."""
        async with self._starting:
            pass

    async def wait_for_cleanup(self) -> None:
        """Wait until the work that follows a run is done too."""
        if self._cleanup:
            await asyncio.wait([self._cleanup])

    async def stop(self) -> None:
        """Begin no more runs, interrupt the one in progress, and wait until its end is
        recorded, but no longer than STOP_SECONDS.
        """
        self._is_stopping = True
        if self.current:
            self.current.end_early(Interrupted(INTERRUPTED))
        if self._cleanup:
            self._cleanup.cancel()
        if tasks := [task for task in (self._supervision, self._cleanup) if task]:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)

    async def _begin(self, dry: bool, full: bool, allow_empty: bool) -> Run:
        """Take the lead and begin a run, or raise RunInProgress with the run of another
        server.

        The lead is taken just before a run is recorded, and given back just after its
        end is. A server that changes the schema has the lead as well, mostly not for
        long: otherwise DatabaseUnavailable is raised.
        """
        for _ in range(BEGIN_TRIES):
            async with AsyncExitStack() as stack:
                pool = self._database.runners
                lead = await stack.enter_async_context(pool.connection())
                cursor = await lead.execute(
                    "select has_begun, summary from etl.begin_run(%s, %s, %s)",
                    [dry, allow_empty, full],
                )
                has_begun, summary = await cursor.fetchone() or (False, None)
                if has_begun:
                    run = Run(summary["id"], dry, summary, allow_empty, full)
                    run.phase = summary["phase"]
                    run.work = asyncio.create_task(self._work(run, lead))
                    self._supervision = asyncio.create_task(
                        self._supervise(run, run.work, stack.pop_all())
                    )
                    return run
            if summary is not None:
                raise RunInProgress(summary)
            await asyncio.sleep(BEGIN_PAUSE_SECONDS)
        async with self._database.records.connection() as connection:
            if await is_migrating(connection):
                raise DatabaseUnavailable(MIGRATING)
        raise RunInProgress(None)

    async def _supervise(
        self, run: Run, work: asyncio.Task[None], lead: AsyncExitStack
    ) -> None:
        """Wait for the work of a run, record its end, and then give back the lead."""
        RUN.set(run.id)  # for the log lines of this task
        try:
            async with lead:
                await self._complete(run, work)
        except Exception:  # nothing else would report it, and the run would never end
            log.exception("run %d: its end", run.id)
            if run.summary["state"] == "running":
                run.fault = run.fault or ServiceFault("internal error: see the log")
                run.summary = _interrupted(run.summary, run.fault)
        finally:
            self._on_end(run)
            run.done.set()
        if not self._is_stopping:
            self._cleanup = asyncio.create_task(self._clean_up(run.to_vacuum))

    async def _complete(self, run: Run, work: asyncio.Task[None]) -> None:
        """Wait for the work of a run, and record its end."""
        try:
            await self._look_at_locks(run, work)
            await work
        except (Exception, asyncio.CancelledError) as error:
            # Work that is told to end may fail with any error on its way to it.
            run.fault = run.ended_by or await fault_of(run, self._settings, error)
        if run.fault and run.summary["state"] == "running":
            await self._record_end(run, run.fault)
        if run.summary["state"] == "succeeded":
            run.fault = None  # it was told to end, or lost, after its commit
            log.info("run %d succeeded in %s s", run.id, run.summary["seconds"])
        else:
            state = run.summary["state"]
            log.warning("run %d %s: %s", run.id, state, run.fault)

    async def _look_at_locks(self, run: Run, work: asyncio.Task[None]) -> None:
        """Until the work ends, know for which lock it waits: its error does not say."""
        while not (await asyncio.wait([work], timeout=LOOK_SECONDS))[0]:
            with suppress(psycopg.Error, PoolTimeout):
                async with self._database.records.connection() as connection:
                    rows = await connection.execute("table etl.lock_waits")
                    if waits := [wait for (wait,) in await rows.fetchall()]:
                        run.waits_for = "; ".join(waits)  # until the next wait

    async def _record_end(self, run: Run, fault: RunFault) -> None:
        """Record why a run failed; if that fails, others see the run interrupted.

        It has a connection of its own, since the leader's may be lost.
        """
        run.results.clear()  # Postgres may have restarted, and emptied unlogged tables
        try:
            async with self._database.runners.connection() as connection:
                await connection.execute(
                    "select etl.terminate_leftover_backends(%s)", [run.id]
                )
                if isinstance(fault, DiskFull):
                    await give_back_space(connection, self._settings, run.id)
                run.summary = await save_run(connection, run, fault.state)
        except (psycopg.Error, PoolTimeout) as error:
            message = f"the end of the run is not recorded: {one_line(error)}"
            log.error("run %d: %s", run.id, message)
            run.summary = _interrupted(run.summary, fault)

    async def _work(self, run: Run, lead: AsyncConnection) -> None:
        """All phases, from the files to the table."""
        RUN.set(run.id)
        await run_phases(run, self._settings, lead, self._database.runners)

    async def _clean_up(self, tables: Collection[str]) -> None:
        """After the answer: forget old runs, and remove rows that were replaced."""
        try:
            async with self._database.runners.connection() as connection:
                keep = [self._settings.keep_runs]
                await connection.execute("select etl.keep_runs(%s)", keep)
                for table in sorted(tables):
                    name = sql.Identifier(*table.split("."))
                    # Runs analyze staging themselves, and readers query features.
                    vacuum = "vacuum (skip_locked, analyze {}) {}"
                    analyze = sql.Literal(table == FEATURES)
                    await connection.execute(sql.SQL(vacuum).format(analyze, name))
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("cleaning up after a run: %s", one_line(error))


def _interrupted(summary: RunSummary, fault: RunFault) -> RunSummary:
    """The summary of a run as others see it whose end is not on record."""
    return {**summary, "state": "interrupted", "error": str(fault)}
