"""What a run that met a full disk says of it, and the space that it gives back."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from errno import ENOSPC
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from etl.errors import RunFault, ServiceFault
from etl.postgres.folders import home_folder
from etl.postgres.process import last_panic
from etl.postgres.reserve import keep_reserve, release_reserve
from etl.postgres.sqlerrors import one_line
from etl.run.records import Run
from etl.settings import Settings

#: How often the log of a Postgres that ended itself is read, for its logger is another
#: process than the one whose end is known already; and the seconds between.
LOG_TRIES, LOG_PAUSE_SECONDS = 5, 0.1

#: Everything that a failed run has filled, and what only a checkpoint removes.
EMPTY, CHECKPOINT = "select etl.empty_staging()", "checkpoint"

#: Bytes that a checkpoint needs itself: without any it ends the server, which can then
#: serve no reader until somebody makes room.
CHECKPOINT_BYTES = 1 << 20

log = logging.getLogger(__name__)


class DiskFull(ServiceFault):
    """There is no space left on the disk of the database."""

    def __init__(self, run: Run, message: str) -> None:
        super().__init__(
            f"{run.phase}: the disk of the database is full: {message}: "
            "make room, or load less, and run again"
        )


async def explain(run: Run, settings: Settings, fault: RunFault) -> RunFault:
    """The fault of a run that lost its database, or a full disk where that is why.

    Without space for WAL a Postgres ends itself, and only its log says so.
    """
    if settings.database is not None:
        return fault
    logs = home_folder(settings.state_dir) / "log"
    began = time.time() - (time.monotonic() - run.began)
    for _ in range(LOG_TRIES):
        panic = await asyncio.to_thread(last_panic, logs, began)
        if panic is not None:
            return DiskFull(run, panic) if os.strerror(ENOSPC) in panic else fault
        await asyncio.sleep(LOG_PAUSE_SECONDS)
    return fault


async def give_back_space(connection: AsyncConnection, settings: Settings) -> None:
    """Empty what the run has filled, so that the next one finds room."""
    home = home_folder(settings.state_dir) if settings.database is None else None
    if home is not None:
        await asyncio.to_thread(release_reserve, home)
    for statement in (EMPTY, CHECKPOINT):
        if statement == CHECKPOINT and home and not _has_room(home):
            log.warning("space is not given back: there is none for a checkpoint")
            break
        try:
            await connection.execute(statement.encode())
        except psycopg.Error as error:  # as where the role may not do so
            log.warning("space is not given back: %s: %s", statement, one_line(error))
            break
    if home is not None:
        await asyncio.to_thread(keep_reserve, home)


def _has_room(home: Path) -> bool:
    """Whether the disk has what a checkpoint needs: others may have filled it again."""
    return shutil.disk_usage(home).free >= CHECKPOINT_BYTES
