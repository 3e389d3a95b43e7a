"""Runs the SQL files of a phase, whole or in slices. Knows no statement in them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, AsyncCursor, DataError, IntegrityError
from psycopg.errors import DiskFull, LockNotAvailable, ProgramLimitExceeded

from etl.errors import DataFault, ServiceFault, all_together
from etl.postgres.sqlerrors import NO_STATEMENT, describe, had_no_statement, is_lost
from etl.sqlfiles import SqlFile

#: Bad rows that the error of a check names.
MAX_ROWS_NAMED = 5

#: Whether a connection builds a part of the rows alone.
SET_PART = "select set_config('etl.builds_part', %s, false)"

Job = Callable[[AsyncConnection], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass
class Step:
    """What a run reports of a SQL file; ``rows`` are those that it wrote or returned,
    of a rule the records that were rejected. It is ``kept`` where it did not run, since
    nothing had changed: its rows are then of the run in which it did.
    """

    file: str
    sha256: str
    rows: int = 0
    milliseconds: float = 0.0
    kept: bool = False


@dataclass(frozen=True)
class Result:
    """That a SQL file has run: ``inputs`` are the versions of what it read, by table;
    ``rows`` are those that it wrote or found.
    """

    sha256: str
    inputs: Mapping[str, str]
    rows: int


@contextmanager
def timed(file: SqlFile, sent_before: int = 0) -> Iterator[Step]:
    """The step of a file that runs in here, which sets its rows.

    ``sent_before`` characters were sent before its text. Raises DataFault where a
    value, a constraint or a size stops the file, ServiceFault where the file is wrong;
    psycopg.Error where the connection is lost, the disk full, or a lock not available.
    """
    began = time.perf_counter()
    step = Step(file.path, file.sha256)
    try:
        yield step
    except psycopg.Error as error:
        if is_lost(error) or isinstance(error, DiskFull | LockNotAvailable):
            raise
        message = describe(file, error, sent_before)
        if isinstance(error, DataError | IntegrityError | ProgramLimitExceeded):
            raise DataFault(message) from error
        if not isinstance(error, psycopg.ProgrammingError):
            log.error("%s", message)
        raise ServiceFault(message) from error
    step.milliseconds = round((time.perf_counter() - began) * 1000, 3)
    log.info("%(file)s: %(rows)d rows in %(milliseconds).1f ms", vars(step))


async def run_jobs(workers: Sequence[AsyncConnection], jobs: Sequence[Job]) -> None:
    """Run all jobs, as many at once as there are workers."""
    waiting = iter(jobs)

    async def work(worker: AsyncConnection) -> None:
        for job in waiting:
            await job(worker)

    await all_together(work(worker) for worker in workers)


async def build(
    file: SqlFile,
    lead: AsyncConnection,
    builders: Sequence[AsyncConnection],
    prepare_part: Job | None = None,
) -> Step:
    """Run a file of the build, on ``lead`` or in slices on all ``builders``, for all of
    its rows, or a part of them that ``prepare_part`` prepares.

    Raises what ``timed`` does.
    """
    connections = builders if file.in_slices else [lead]
    with timed(file) as step:
        if prepare_part:
            await prepare_part(lead)
            await _set_part(connections, "on")
        try:
            step.rows = await _run_slices(file, connections)
        finally:
            if prepare_part:
                await _set_part(connections, "")
    return step


async def _set_part(connections: Sequence[AsyncConnection], value: str) -> None:
    for connection in connections:
        await connection.execute(SET_PART, [value])


async def _run_slices(file: SqlFile, builders: Sequence[AsyncConnection]) -> int:
    """Run a file on all builders; the error of one ends the others and is raised.

    They are ended by the server: where a task is cancelled in the middle of a query,
    psycopg may have to close the connection, and the run still needs it.
    """
    tasks = [asyncio.create_task(_execute(file, builder)) for builder in builders]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = [task.exception() for task in tasks if task.done()]
        for task, builder in zip(tasks, builders, strict=True):
            if not task.done():
                await builder.cancel_safe()
        await asyncio.wait(tasks)
        for error in filter(None, errors):
            raise error
        return sum(task.result() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _execute(file: SqlFile, connection: AsyncConnection) -> int:
    """Run all statements of a file; the rows of the last one that has any."""
    rows = 0
    async for cursor in _results(file, connection):
        rows = cursor.rowcount if cursor.rowcount >= 0 else rows
    return rows


async def _results(
    file: SqlFile, connection: AsyncConnection
) -> AsyncIterator[AsyncCursor]:
    """The result of each statement of a file, one after the other.

    It is never prepared: a plan has the slice of the connection as a constant, and may
    be one for the few rows of an earlier run.
    """
    async with connection.cursor() as cursor:
        await cursor.execute(file.text.encode(), prepare=False)
        if had_no_statement(cursor):
            raise ServiceFault(f"{file.path} {NO_STATEMENT}")
        yield cursor
        while cursor.nextset():
            yield cursor


async def check(
    file: SqlFile,
    connection: AsyncConnection,
    warn: Callable[[str], None],
    allow_empty: bool,
) -> Step:
    """Run a check. Raises DataFault where it finds rows, and what ``timed`` does.

    ``warn`` gets what it finds where it only warns, by itself or because the run is to
    ``allow_empty`` files.
    """
    messages = []
    with timed(file) as step:
        async for cursor in _results(file, connection):
            step.rows = cursor.rowcount if cursor.rowcount >= 0 else step.rows
            if cursor.description and cursor.rowcount:
                messages.append(await _describe_rows(file, cursor))
    can_be_overridden = file.header.get("overridden_by")
    for message in messages:
        if file.only_warns or (can_be_overridden and allow_empty):
            warn(message)
        elif can_be_overridden:
            raise DataFault(
                f"{message}. If that is meant, trigger with ?allow_empty=true"
            )
        else:
            raise DataFault(message)
    return step


async def _describe_rows(file: SqlFile, cursor: AsyncCursor) -> str:
    """What a check found, in one line with its first rows."""
    names = [column.name for column in cursor.description or ()]
    first = [
        ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
        for row in await cursor.fetchmany(MAX_ROWS_NAMED)
    ]
    more = "; …" if cursor.rowcount > MAX_ROWS_NAMED else ""
    rows = "1 bad row" if cursor.rowcount == 1 else f"{cursor.rowcount} bad rows"
    return f"{file.path} found {rows}: {'; '.join(first)}{more}"
