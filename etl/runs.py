"""One run from lock to publish, its record and its progress.

Knows the order of the phases, and nothing of what the SQL files do in them.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from psycopg import (
    AsyncConnection,
    DataError,
    IntegrityError,
    OperationalError,
    Rollback,
)
from psycopg_pool import PoolTimeout

from etl.database import Database, one_line, set_local
from etl.errors import DatabaseAway, DataFault, Interrupted, RunFault, ServiceFault
from etl.phases import run_phases
from etl.records import Record, Run, note, read_runs, value_of
from etl.settings import Settings

#: For the one transaction whose rows must be on disk when the run is said to be over.
#: A row of features that somebody else has locked is waited for, but not for ever.
PUBLISH_SETTINGS = {"synchronous_commit": "on", "lock_timeout": "60s"}

#: Looks at the record of a run that another server is beginning, and seconds between.
RECORD_TRIES, RECORD_PAUSE_SECONDS = 20, 0.05

log = logging.getLogger(__name__)


class RunUnderWay(Exception):
    """Another run has the lead; ``record`` is its record, None if it just ended."""

    def __init__(self, record: Record | None) -> None:
        super().__init__("a run is under way")
        self.record = record


class Runner:
    """Starts runs, one at a time, and sees them to their end whoever waits for them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._begin_turn = asyncio.Lock()
        self._run: Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    async def start(self, *, dry: bool = False) -> Run:
        """Begin a run, a dry one does not publish, and return while it goes on.

        Raises RunUnderWay where this or another server has one, DatabaseAway.
        """
        async with self._begin_turn:
            if self._run is not None and not self._run.done.is_set():
                if self._run.record["state"] == "running":
                    raise RunUnderWay(self._run.record)
                await self._run.done.wait()  # it is over, and says so in a moment
            try:
                run, lead = await self._begin_or_find(dry)
            except (OperationalError, PoolTimeout) as error:
                words = f"the database is away: {one_line(error)}"
                raise DatabaseAway(words) from error
            self._run = run
            self._task = asyncio.create_task(self._see_through(run, lead))
            return run

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

    async def stop(self) -> None:
        """Interrupt the run in progress, if any, and wait until that is on record."""
        for task in (self._task, self._tidying):
            if task and not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _begin_or_find(self, dry: bool) -> tuple[Run, AsyncConnection]:
        """Begin a run, or raise RunUnderWay with the run of another server.

        Its row comes right after the lock, and the lock goes right after its row.
        """
        for _ in range(RECORD_TRIES):
            begun = await self._begin(dry)
            if begun is not None:
                return begun
            async with self._database.readers.connection() as connection:
                for record in await read_runs(connection):
                    if record["state"] == "running":
                        raise RunUnderWay(record)
            await asyncio.sleep(RECORD_PAUSE_SECONDS)
        raise RunUnderWay(None)

    async def _begin(self, dry: bool) -> tuple[Run, AsyncConnection] | None:
        """Take the lead and begin a run; None where another server has the lead."""
        pool = self._database.runners
        lead = await pool.getconn()
        try:
            number = await value_of(lead, "select etl.begin_run(%s)", dry)
            if number is not None:
                run = Run(number, dry, {})
                run.record = await note(lead, run)
                return run, lead
        except BaseException:
            await pool.putconn(lead)
            raise
        await pool.putconn(lead)
        return None

    async def _see_through(self, run: Run, lead: AsyncConnection) -> None:
        """Work until the run is published, or on record as failed or interrupted."""
        state = "failed"
        try:
            await self._work(run, lead)
            state = "succeeded"
        except RunFault as fault:
            run.fault = fault
        except psycopg.errors.ProgramLimitExceeded as error:
            run.fault = DataFault(f"{run.phase}: {one_line(error)}")
        except asyncio.CancelledError:
            state = "interrupted"
            run.fault = Interrupted("interrupted: the service was stopped")
        except (OperationalError, PoolTimeout) as error:
            if isinstance(error, PoolTimeout) or _is_lost(error):
                run.fault = DatabaseAway(f"the database went away: {one_line(error)}")
            else:
                run.fault = ServiceFault(f"{run.phase}: {one_line(error)}")
            log.exception("run %d", run.id)
        except Exception:
            run.fault = ServiceFault(f"internal error in {run.phase}: see the log")
            log.exception("run %d", run.id)
        try:
            await self._record_end(run, lead, state)
        finally:
            await self._database.runners.putconn(lead)
            run.done.set()
        self._tidying = asyncio.create_task(self._tidy_up(vacuum=not run.dry))

    async def _record_end(self, run: Run, lead: AsyncConnection, state: str) -> None:
        """Put the end on record; where that fails, others see the run interrupted."""
        reason = str(run.fault) if run.fault else None
        try:
            async with self._connection(lead) as connection:
                await note(connection, run)
                await connection.execute(
                    "select etl.end_run(%s, %s, %s)", [run.id, state, reason]
                )
                run.record = await note(connection, run)
        except (psycopg.Error, PoolTimeout) as error:
            log.error("run %d: its end is not on record: %s", run.id, one_line(error))
            ended = "interrupted" if reason else state
            run.record = {**run.record, "state": ended, "error": reason}
        if run.record["state"] == "succeeded":
            run.fault = None  # also where the connection was lost after the commit
            log.info("run %d succeeded in %s s", run.id, run.record["seconds"])
        else:
            log.warning("run %d %s: %s", run.id, run.record["state"], reason)

    @asynccontextmanager
    async def _connection(
        self, lead: AsyncConnection
    ) -> AsyncIterator[AsyncConnection]:
        """The lead while it lives, else another connection."""
        async with AsyncExitStack() as stack:
            try:
                await self._database.runners.check_connection(lead)
            except psycopg.Error:
                pool = self._database.runners
                lead = await stack.enter_async_context(pool.connection())
            yield lead

    async def _work(self, run: Run, lead: AsyncConnection) -> None:
        """All phases, from the files to the table."""

        async def publish(checked: asyncio.Future[bool]) -> None:
            await self._publish(run, lead, checked)

        async with self._workers(run) as workers:
            await run_phases(
                *(run, self._settings, lead, workers),
                None if run.dry else publish,
            )

    @asynccontextmanager
    async def _workers(self, run: Run) -> AsyncIterator[list[AsyncConnection]]:
        """The connections that work for a run, each bound to die with it."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            workers = []
            for _ in range(max(settings.load_workers, settings.build_workers)):
                worker = await stack.enter_async_context(
                    self._database.runners.connection()
                )
                await worker.execute("select etl.join_run(%s)", [run.id])
                workers.append(worker)
            yield workers

    async def _publish(
        self, run: Run, lead: AsyncConnection, checked: asyncio.Future[bool]
    ) -> None:
        """Write the rows in one transaction, and commit it when all is checked.

        Where a check fails in the meantime, the writing is cancelled by the server,
        since the run has use for the connection yet.
        """
        try:
            async with lead.transaction():
                await set_local(lead, PUBLISH_SETTINGS)
                writing = asyncio.create_task(
                    lead.execute("select etl.publish(%s)", [run.id])
                )
                try:
                    either: list[asyncio.Future[Any]] = [writing, checked]
                    await asyncio.wait(either, return_when=FIRST_COMPLETED)
                    if checked.done() and not checked.result():
                        await lead.cancel_safe()
                    await writing
                    if not await checked:
                        raise Rollback
                    # Whoever sees that it has succeeded sees all that it did.
                    await note(lead, run)
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
        except psycopg.errors.ForeignKeyViolation as error:
            raise DataFault(
                f"publish: {one_line(error)} A foreign key to features must be "
                "deferrable, and the rows it refers to must be in the new features."
            ) from error
        except (DataError, IntegrityError) as error:
            raise DataFault(f"publish: {one_line(error)}") from error
        except psycopg.errors.LockNotAvailable as error:
            waited = PUBLISH_SETTINGS["lock_timeout"]
            words = f"publish: features was locked by somebody else for over {waited}"
            raise ServiceFault(words) from error

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


def _is_lost(error: OperationalError) -> bool:
    """Whether the connection went, and not only the statement."""
    state = error.sqlstate
    return state is None or state.startswith(("08", "57P0"))
