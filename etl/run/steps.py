"""Runs the SQL files of one phase, whole or in slices. Knows no statement in them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, AsyncCursor, DataError, IntegrityError
from psycopg.errors import DiskFull, ProgramLimitExceeded

from etl.errors import DataFault, RunFault, ServiceFault
from etl.postgres.sqlerrors import NO_STATEMENT, describe, had_no_statement, is_lost
from etl.postgres.transactions import local, transaction
from etl.sqlfiles import SLICE_SETTING, SqlFile

#: Bad rows that the error of a check shows.
SHOWN_ROWS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What a run's record tells of a SQL file: rows that it wrote or returned."""

    file: str
    sha256: str
    rows: int
    milliseconds: float


async def run_file(
    file: SqlFile,
    lead: AsyncConnection,
    workers: Sequence[AsyncConnection],
    warn: Callable[[str], None],
    overrides: Collection[str] = (),
) -> Step:
    """Run one SQL file to its end, on ``lead`` or in slices on all ``workers``.

    ``warn`` is told what a check finds that only warns, by itself or since one of the
    ``overrides`` has it so. Raises DataFault where a value or a constraint stops it, or
    a check finds rows; ServiceFault where the file itself is wrong;
    psycopg.OperationalError where the connection is lost, or the disk full.
    """
    began = time.perf_counter()
    counts = [0] * len(workers)

    async def run_slice(number: int, worker: AsyncConnection) -> None:
        slices = {"etl.slice": str(number), SLICE_SETTING: str(len(workers))}
        async with transaction(worker, local(slices)):
            counts[number] = await _execute(file, worker, warn, overrides)

    try:
        if file.in_slices:
            await _until_one_fails(run_slice, workers)
        else:
            counts = [await _execute(file, lead, warn, overrides)]
    except psycopg.Error as error:
        if is_lost(error) or isinstance(error, DiskFull):
            raise
        raise _fault_of(file, error) from error
    milliseconds = round((time.perf_counter() - began) * 1000, 3)
    step = Step(file.path, file.sha256, sum(counts), milliseconds)
    log.info("%(file)s: %(rows)d rows in %(milliseconds).1f ms", vars(step))
    return step


def _fault_of(file: SqlFile, error: psycopg.Error) -> RunFault:
    """The data's fault where a value, a constraint or a size stops the file."""
    message = describe(file, error)
    if isinstance(error, DataError | IntegrityError | ProgramLimitExceeded):
        return DataFault(message)
    if not isinstance(error, psycopg.ProgrammingError):
        log.error("%s", message)
    return ServiceFault(message)


async def _until_one_fails(
    run_slice: Callable[[int, AsyncConnection], Coroutine[None, None, None]],
    workers: Sequence[AsyncConnection],
) -> None:
    """Run all slices; the error of one ends the others and is raised.

    They are ended by the server: where a task is cancelled in the middle of a query,
    psycopg may have to close the connection, and the run has use for it yet.
    """
    slices = enumerate(workers)
    tasks = [asyncio.create_task(run_slice(*numbered)) for numbered in slices]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = [task.exception() for task in tasks if task.done()]
        for task, worker in zip(tasks, workers, strict=True):
            if not task.done():
                await worker.cancel_safe()
        await asyncio.wait(tasks)
        for error in filter(None, errors):
            raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _execute(
    file: SqlFile,
    connection: AsyncConnection,
    warn: Callable[[str], None],
    overrides: Collection[str],
) -> int:
    """Run all statements of a file; the rows of the last one that tells of any."""
    rows = 0
    async with connection.cursor() as cursor:
        await cursor.execute(file.text.encode())
        if had_no_statement(cursor):
            raise ServiceFault(f"{file.path} {NO_STATEMENT}")
        while True:
            if cursor.rowcount >= 0 and not (
                file.folder == "clean" and cursor.description
            ):
                rows = cursor.rowcount
            if file.folder == "check" and cursor.description and rows:
                words = await _bad_rows(file, cursor)
                if file.only_warns or file.overridden_by in overrides:
                    warn(words)
                elif file.overridden_by:
                    advice = f"trigger with ?{file.overridden_by}=true"
                    raise DataFault(f"{words}. If that is meant, {advice}")
                else:
                    raise DataFault(words)
            if not cursor.nextset():
                return rows


async def _bad_rows(file: SqlFile, cursor: AsyncCursor) -> str:
    """What a check found, in one line with its first rows."""
    names = [column.name for column in cursor.description or ()]
    shown = [
        ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
        for row in await cursor.fetchmany(SHOWN_ROWS)
    ]
    more = "; …" if cursor.rowcount > SHOWN_ROWS else ""
    rows = "1 bad row" if cursor.rowcount == 1 else f"{cursor.rowcount} bad rows"
    return f"{file.path} found {rows}: {'; '.join(shown)}{more}"
