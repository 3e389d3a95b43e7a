"""How a run ends that fails: whose fault it is, for its callers, and what is logged."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg import OperationalError

from etl.errors import DatabaseAway, DataFault, Interrupted, RunFault, ServiceFault
from etl.postgres.sqlerrors import is_lost, one_line
from etl.run.full_disk import DiskFull
from etl.run.records import Run

#: What the record of a run says that ended with the service.
INTERRUPTED = "interrupted: the service was stopped"

log = logging.getLogger(__name__)


def fault_of(run: Run, error: BaseException) -> RunFault:
    """What an error of a run's work is to its callers; the log has the rest."""
    match error:
        case RunFault():
            return error
        case psycopg.errors.ProgramLimitExceeded():
            return DataFault(f"{run.phase}: {one_line(error)}")
        case psycopg.errors.DiskFull():
            return DiskFull(run, one_line(error))
        case asyncio.CancelledError():
            return Interrupted(INTERRUPTED)
    if isinstance(error, OperationalError) and is_lost(error):
        return DatabaseAway(f"the database went away: {one_line(error)}")
    log.error("run %d", run.id, exc_info=error)
    if not isinstance(error, OperationalError):
        return ServiceFault(f"internal error in {run.phase}: see the log")
    return ServiceFault(f"{run.phase}: {one_line(error)}")


def log_end(run: Run) -> None:
    """Log the end of a run, once it is recorded."""
    state = run.record["state"]
    if state == "succeeded":
        log.info("run %d succeeded in %s s", run.id, run.record["seconds"])
    else:
        log.warning("run %d %s: %s", run.id, state, run.fault)
