"""Whether the service is ready: its requests find the schema, and a run can begin.

Knows which connections that takes, and nothing of what runs and requests do with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from etl.postgres.database import Database
from etl.postgres.pools import POOL_WAIT_SECONDS
from etl.postgres.sqlerrors import one_line
from etl.run.runs import Runner

#: Seconds that one who asks waits at most: pools give up before, and the health check
#: of the container after.
READY_SECONDS = POOL_WAIT_SECONDS + 0.5

log = logging.getLogger(__name__)


class Readiness:
    """Checks whether the service is ready, once for all who ask at the same time.

    So a check takes at most one connection of each pool, however many ask, and the
    pool of the runners has one more than runs need: no run waits for a check.
    """

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._checks: dict[str, asyncio.Task[str | None]] = {}

    async def reason(self) -> str | None:
        """Why the service is not ready, None if it is; within ``READY_SECONDS``."""
        checks = {
            "the database is away": self._can_read,
            "no run can begin": self._can_begin_run,
        }
        tasks = {what: self._in_progress(what, check) for what, check in checks.items()}
        await asyncio.wait(tasks.values(), timeout=READY_SECONDS)
        for what, task in tasks.items():
            if not task.done():
                return f"{what}: there is no answer after {READY_SECONDS} s"
            if reason := task.result():
                return reason
        return None

    def _in_progress(
        self, what: str, check: Callable[[], Coroutine[None, None, None]]
    ) -> asyncio.Task[str | None]:
        """The task of a check: the one in progress, or a new one."""
        task = self._checks.get(what)
        if task is None or task.done():
            task = self._checks[what] = asyncio.create_task(_reason(what, check))
        return task

    async def _can_read(self) -> None:
        async with self._database.readers.connection() as connection:
            await connection.execute("select 1 from etl.feature_columns limit 1")

    async def _can_begin_run(self) -> None:
        """A run in progress has its connections, and may take all there are."""
        if self._runner.current is None:
            async with self._database.runners.connection() as connection:
                await connection.execute("select 1")


async def _reason(
    what: str, check: Callable[[], Coroutine[None, None, None]]
) -> str | None:
    """Why a check fails; None where it passes."""
    try:
        await check()
    except PoolTimeout as error:
        return f"{what}: {one_line(error)}"
    except OperationalError as error:  # it may name what is internal
        log.warning("not ready: %s: %s", what, one_line(error))
        return f"{what}: try again in a moment"
    return None
