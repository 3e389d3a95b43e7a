"""Whether the service is ready: its requests find the schema, and a run can start."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg_pool import PoolTimeout

from etl.postgres.database import Database
from etl.postgres.shares import POOL_WAIT_SECONDS
from etl.postgres.sqlerrors import one_line
from etl.run.runs import Runner

#: Seconds that a request waits at most: longer than a pool does, and less than the
#: health check of the container.
READY_SECONDS = POOL_WAIT_SECONDS + 0.5

UNAVAILABLE = "the database is unavailable"

log = logging.getLogger(__name__)


class Readiness:
    """Checks whether the service is ready, once for all requests at the same time.

    A check takes one connection at a time, however many requests wait for it, and the
    pool of the runners has one more than runs need: no run waits for a check.
    """

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._check: asyncio.Task[str | None] | None = None

    async def reason(self) -> str | None:
        """Why the service is not ready, None if it is; within ``READY_SECONDS``."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._find_reason())
        check = self._check
        await asyncio.wait([check], timeout=READY_SECONDS)
        if check.done():
            return check.result()
        return f"{UNAVAILABLE}: there is no answer after {READY_SECONDS} s"

    async def _find_reason(self) -> str | None:
        checked = UNAVAILABLE
        try:
            async with self._database.records.connection() as connection:
                await connection.execute("select 1 from etl.feature_columns limit 1")
            checked = "no run can begin"
            # A run in progress has its connections, and may take all there are.
            if self._runner.current is None:
                async with self._database.runners.connection() as connection:
                    await connection.execute("select 1")
        except PoolTimeout as error:
            return f"{checked}: {one_line(error)}"
        except psycopg.Error as error:  # its message may name internals
            log.warning("not ready: %s: %s", checked, one_line(error))
            return f"{checked}: try again in a moment"
        return None
