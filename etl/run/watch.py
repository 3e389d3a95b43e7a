"""Starts a run when the CSV files have changed and come to rest: the setting WATCH.

Knows the files by name, size and time, and nothing of what they say. It looks again and
again, since a folder that is mounted from elsewhere reports no changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from etl.errors import Cancelled, DatabaseUnavailable, DataFault, Interrupted
from etl.run.runs import RunInProgress, Runner

#: Seconds between two attempts to start a run, at most.
MAX_PAUSE_SECONDS = 600

#: Size, time in nanoseconds, and whether the file can be read, since a change of its
#: permissions leaves the time as it is. None for a file that is missing.
State = tuple[int, int, bool] | None

log = logging.getLogger(__name__)


class Watcher:
    """Looks at files every so many seconds and starts a run where that is due.

    At the start of a service one run is due: the SQL files may have changed too, and if
    nothing has, a run has nothing to do. ``on_start`` is called with each that began.
    """

    def __init__(
        self,
        runner: Runner,
        paths: Collection[Path],
        seconds: float,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner, self._on_start = runner, on_start
        self._paths, self._seconds = paths, seconds
        self._looked_at: datetime | None = None
        self._waits_for = "rest"
        self._files: list[State] = []  # at the last look, in the order of paths
        self._seen: list[State] = []  # at the look at which a run last began
        self._is_settled = False  # whether only other files are worth another run
        self._pause = self._looks_left = 0  # looks up to the next attempt

    @property
    def summary(self) -> dict[str, Any]:
        """What ``/healthz`` says."""
        return {
            "seconds": self._seconds,
            "looked_at": self._looked_at and self._looked_at.isoformat(),
            "waits_for": self._waits_for,
        }

    async def watch(
        self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Look until the service stops; ``pause`` waits for so many seconds."""
        while True:
            try:
                await self.look()
            except Interrupted:
                return
            except Exception as error:  # nothing else would report it, or look again
                log.exception("WATCH")
                self._postpone(error)
            await pause(self._seconds)

    async def look(self) -> None:
        """Look at the files; do a run if one is due. Raises Interrupted at a stop."""
        files = await asyncio.to_thread(lambda: [*map(_read_state, self._paths)])
        is_at_rest = files == self._files
        self._files, self._looked_at = files, datetime.now(UTC)
        if not is_at_rest:  # what failed with other files may succeed with these
            self._pause = self._looks_left = 0
        self._looks_left = max(self._looks_left - 1, 0)
        if self._is_settled and files == self._seen:
            self._waits_for = "change"
        elif not is_at_rest:
            self._waits_for = "rest"
        elif self._runner.current is not None:
            self._waits_for = "run"
        elif self._looks_left:
            self._waits_for = "retry"
        else:
            await self._run(files)

    async def _run(self, files: list[State]) -> None:
        self._waits_for = "run"
        try:
            # As of a trigger: a run that begins does so whatever happens here.
            run = await asyncio.shield(self._runner.start())
        except (RunInProgress, DatabaseUnavailable) as error:
            self._postpone(error)
            return
        log.info("WATCH started run %d: %s", run.id, self._reason(files))
        self._on_start()
        self._seen, self._is_settled = files, False
        await run.done.wait()
        if run.fault is None or isinstance(run.fault, DataFault | Cancelled):
            self._waits_for, self._is_settled, self._pause = "change", True, 0
        else:
            self._postpone(run.fault)

    def _postpone(self, error: Exception) -> None:
        """Try again at the next look, and after each failure twice as many later."""
        longest = max(int(MAX_PAUSE_SECONDS / self._seconds), 1)
        self._pause = self._looks_left = min(max(self._pause * 2, 1), longest)
        self._waits_for = "retry"
        if not isinstance(error, Interrupted):  # mostly, the service is being stopped
            seconds = self._pause * self._seconds
            log.warning("WATCH tries again in %g s: %s", seconds, error)

    def _reason(self, files: list[State]) -> str:
        """Why a run is due: which files differ from those of the last that began."""
        if not self._seen:
            return "the service has started"
        changes = [
            f"{path.name} {'is missing' if state is None else 'has changed'}"
            for path, state, seen in zip(self._paths, files, self._seen, strict=True)
            if state != seen
        ]
        return ", ".join(changes) or "the last run failed"


def _read_state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:  # the run says what is wrong with it
        return None
    return found.st_size, found.st_mtime_ns, os.access(path, os.R_OK)


async def source_paths(connection: AsyncConnection, data_dir: Path) -> list[Path]:
    """Where the file of every staging table is, in the order of their names."""
    rows = await connection.execute(
        "select distinct source from etl.source_columns order by source"
    )
    return [data_dir / f"{source}.csv" for (source,) in await rows.fetchall()]
