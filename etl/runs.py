"""One run from lock to publish, its record and its progress.

Knows the order of the phases, and nothing of what the SQL files do in them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, DataError, IntegrityError, OperationalError
from psycopg_pool import PoolTimeout

from etl.database import Database, one_line, set_local
from etl.errors import DatabaseAway, DataFault, Interrupted, RunFault, ServiceFault
from etl.load import LoadedFile, Source, load_files, read_sources
from etl.settings import Settings
from etl.sqlfiles import SqlFile, SqlFileError, read_folder
from etl.steps import Step, run_file

#: For the one transaction whose rows must be on disk when the run is said to be over.
#: A row of features that somebody else has locked is waited for, but not for ever.
PUBLISH_SETTINGS = {"synchronous_commit": "on", "lock_timeout": "60s"}

#: Looks at the record of a run that another server is beginning, and seconds between.
RECORD_TRIES, RECORD_PAUSE_SECONDS = 20, 0.05

log = logging.getLogger(__name__)

Record = dict[str, Any]


class RunUnderWay(Exception):
    """Another run has the lead; ``record`` is its record, None if it just ended."""

    def __init__(self, record: Record | None) -> None:
        super().__init__("a run is under way")
        self.record = record


@dataclass
class Run:
    """A run of this process: what is known of it so far, and how it ended.

    ``record`` is what ``/runs/{id}`` gives, as last read; ``fault`` is None until it
    failed; ``done`` is set when it is over, in whichever way.
    """

    id: int
    dry: bool
    record: Record
    phase: str | None = None
    files: list[LoadedFile] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bytes_to_load: int = 0
    fault: RunFault | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


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
            number = await _value(lead, "select etl.begin_run(%s)", dry)
            if number is not None:
                run = Run(number, dry, {})
                run.record = await _note(lead, run)
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
        self._tidying = asyncio.create_task(self._tidy_up(vacuum=run.fault is None))

    async def _record_end(self, run: Run, lead: AsyncConnection, state: str) -> None:
        """Put the end on record; where that fails, others see the run interrupted."""
        reason = str(run.fault) if run.fault else None
        try:
            async with self._connection(lead) as connection:
                await _note(connection, run)
                await connection.execute(
                    "select etl.end_run(%s, %s, %s)", [run.id, state, reason]
                )
                run.record = await _note(connection, run)
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
        settings = self._settings
        await self._enter(run, lead, "load")
        await lead.execute("select etl.empty_staging()")
        async with self._workers(run) as workers:
            sources = await read_sources(lead)
            run.bytes_to_load, run.warnings = _survey(settings.data_dir, sources)
            loaders = workers[: settings.load_workers]
            await load_files(loaders, settings.data_dir, sources, run.files.append)
            builders = workers[: settings.build_workers]
            for phase in ("clean", "build", "check"):
                await self._enter(run, lead, phase)
                for file in _pipeline_files(settings.sql_dir / phase):
                    step = await run_file(file, lead, builders, run.warnings.append)
                    run.steps.append(step)
        if not run.dry:
            await self._enter(run, lead, "publish")
            await self._publish(run, lead)

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

    async def _enter(self, run: Run, lead: AsyncConnection, phase: str) -> None:
        run.phase = phase
        run.record = await _note(lead, run)

    async def _publish(self, run: Run, lead: AsyncConnection) -> None:
        try:
            async with lead.transaction():
                await set_local(lead, PUBLISH_SETTINGS)
                await lead.execute("select etl.publish(%s)", [run.id])
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


def _pipeline_files(folder: Path) -> list[SqlFile]:
    try:
        return read_folder(folder)
    except SqlFileError as error:
        raise ServiceFault(str(error)) from None


def _survey(data_dir: Path, sources: Sequence[Source]) -> tuple[int, list[str]]:
    """The bytes of the files to load, and a word on those that have no table."""
    names = {source.name for source in sources}
    files = sorted(data_dir.glob("*.csv"))
    size = sum(path.stat().st_size for path in files if path.stem in names)
    return size, [
        f"{path.name}: there is no table staging.{path.stem}: not loaded"
        for path in files
        if path.stem not in names
    ]


async def read_runs(
    connection: AsyncConnection, number: int | None = None
) -> list[Record]:
    """The records of all runs, newest first, or of the one of this ``number``."""
    rows = await connection.execute(
        "select row_to_json(records) from etl.run_records as records"
        " where %(id)s::bigint is null or id = %(id)s order by id desc",
        {"id": number},
    )
    return [record for (record,) in await rows.fetchall()]


async def _note(connection: AsyncConnection, run: Run) -> Record:
    """Put what is known of a run on record, and read the record."""
    notes = [[asdict(item) for item in items] for items in (run.files, run.steps)]
    record = await _value(
        connection,
        "select etl.note_run(%s, %s, %s::json, %s::json, %s::json)",
        *(run.id, run.phase, *map(json.dumps, [*notes, run.warnings])),
    )
    return dict(record)


async def _value(connection: AsyncConnection, query: str, *values: object) -> Any:
    """The one value that ``query`` returns."""
    row = await (await connection.execute(query.encode(), values)).fetchone()
    return row[0] if row else None
