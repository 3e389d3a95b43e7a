"""Whose fault it is that a run failed, and the space that a full disk gets back."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from errno import ENOSPC

import psycopg
from psycopg import AsyncConnection, OperationalError

from etl.errors import (
    DatabaseUnavailable,
    DataFault,
    DiskFull,
    Interrupted,
    RunFault,
    ServiceFault,
)
from etl.postgres.folders import home_folder, keep_reserve, release_reserve
from etl.postgres.pools import RUN_SETTINGS
from etl.postgres.process import last_logged
from etl.postgres.sqlerrors import is_lost, one_line
from etl.run.records import Run
from etl.settings import Settings
from etl.sqlfiles import SqlFileError

#: The error of a run that ended with the service.
INTERRUPTED = "interrupted: the service was stopped"

#: Times that the log of a Postgres that ended itself is read, since its logger, another
#: process, may write later than the connections end; and the seconds between.
LOG_TRIES, LOG_PAUSE_SECONDS = 5, 0.1

#: Bytes that a checkpoint needs. Without them it ends the server, which then cannot
#: serve readers until somebody makes room.
CHECKPOINT_BYTES = 1 << 20

log = logging.getLogger(__name__)


async def fault_of(run: Run, settings: Settings, error: BaseException) -> RunFault:
    """What an error of a run's work is to its callers; the log has the rest."""
    message = f"{run.phase}: {one_line(error)}"
    match error:
        case RunFault():
            return error
        case SqlFileError():
            return ServiceFault(str(error))
        case psycopg.errors.ProgramLimitExceeded():
            return DataFault(message)
        case psycopg.errors.DiskFull():
            return _disk_full(run, one_line(error))
        case psycopg.errors.LockNotAvailable():
            return ServiceFault(
                f"{run.sql_file or run.phase}: waited for a lock for over "
                f"{RUN_SETTINGS['lock_timeout']}: {run.waits_for or one_line(error)}"
            )
        case asyncio.CancelledError():
            return Interrupted(INTERRUPTED)
        case psycopg.errors.InvalidTransactionState():  # of etl.attach_worker
            return DatabaseUnavailable(
                f"the connection that led the run was lost: {one_line(error)}"
            )
        case OperationalError() if is_lost(error):
            panic = None if settings.database else await _panic(run, settings)
            if panic and os.strerror(ENOSPC) in panic:
                return _disk_full(run, panic)
            return DatabaseUnavailable(
                f"the connection to the database was lost: {one_line(error)}"
            )
    log.error("run %d", run.id, exc_info=error)
    if not isinstance(error, OperationalError):
        message = f"internal error in {run.phase}: see the log"
    return ServiceFault(message)


def _disk_full(run: Run, message: str) -> DiskFull:
    return DiskFull(
        f"{run.phase}: the disk of the database is full: {message}: "
        "make room, or load less, and run again"
    )


async def _panic(run: Run, settings: Settings) -> str | None:
    """Why the embedded Postgres ended itself since the run began, if it did.

    Without space for WAL it does, and only its log says so.
    """
    home = home_folder(settings.state_dir)
    began = time.time() - (time.monotonic() - run.began)
    for _ in range(LOG_TRIES):
        if panic := await asyncio.to_thread(last_logged, home, "PANIC", began):
            return panic
        await asyncio.sleep(LOG_PAUSE_SECONDS)
    return None


async def give_back_space(
    connection: AsyncConnection, settings: Settings, run_id: int
) -> None:
    """Empty what the run has filled, so that the next one finds room.

    Working for the run, so that it never empties what the next one fills.
    """
    home = home_folder(settings.state_dir) if settings.database is None else None
    if home is not None:
        await asyncio.to_thread(release_reserve, home)
    try:
        await connection.execute("select etl.attach_worker(%s)", [run_id])
        await connection.execute("select etl.empty_all()")
        if home is None or shutil.disk_usage(home).free >= CHECKPOINT_BYTES:
            await connection.execute("checkpoint")  # which alone removes WAL
        else:  # others have filled the disk again
            log.warning("space is not given back: there is none for a checkpoint")
    except psycopg.Error as error:  # for one, the role may lack the right to do so
        log.warning("space is not given back: %s", one_line(error))
    if home is not None:
        await asyncio.to_thread(keep_reserve, home)
