"""The server-sent events of a run: its progress whenever it changes, then its end.

A run of this process is polled in memory, one of another server in the database. Knows
nothing of how events are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from etl.postgres.database import Database
from etl.postgres.sqlerrors import one_line
from etl.run.records import Run, RunSummary, read_runs

#: Seconds between two polls of a run of this process, and of one of another server.
REFRESH_SECONDS, POLL_SECONDS = 0.2, 1.0

#: Seconds of silence after which a comment shows that the connection is alive: less
#: than the minute after which proxies close one.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b":\n\n"

#: Milliseconds after which an EventSource reconnects when its connection is lost.
RETRY = b"retry: 2000\n"

#: The id of the last event: a client that returns with it needs no other.
LAST_EVENT_ID = "end"

FILE_KEYS = (
    *("file", "bytes", "total_bytes", "load", "records", "records_loaded"),
    "rejected",
)
STEP_KEYS = ("file", "rows", "milliseconds", "kept")

Progress = dict[str, Any]

log = logging.getLogger(__name__)


class Events:
    """The streams of clients that listen to runs, until :meth:`stop`.

    ``listeners`` are what wakes each of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.listeners: set[asyncio.Event] = set()
        self._is_stopped = False

    def stop(self) -> None:
        """End all streams; those of a run that has finished with its last event."""
        self._is_stopped = True
        for wake in self.listeners:
            wake.set()

    async def of_run(
        self, summary: RunSummary, run: Run | None
    ) -> AsyncGenerator[bytes]:
        """The events of a run, the present state first.

        ``run`` is the run of this ``summary`` where this process leads it. Progress
        that differs in its seconds alone is not repeated.
        """
        wake, pause = asyncio.Event(), REFRESH_SECONDS if run else POLL_SECONDS
        self.listeners.add(wake)
        if run:
            run.on_phase.append(wake.set)
        try:
            yield RETRY
            last: Progress = {}
            number, sent_at = 0, time.monotonic()
            while not self._is_stopped and not _has_ended(summary, run):
                progress = progress_of(run) if run else progress_in(summary)
                state = {**progress, "seconds": None}
                if state != last:
                    last, number, sent_at = state, number + 1, time.monotonic()
                    yield _event("progress", number, progress)
                elif time.monotonic() - sent_at > HEARTBEAT_SECONDS:
                    sent_at = time.monotonic()
                    yield HEARTBEAT
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), pause)
                wake.clear()
                if run is None:
                    summary = await self._read(summary)
            if _has_ended(summary, run):
                yield _event("end", LAST_EVENT_ID, run.summary if run else summary)
        finally:
            self.listeners.discard(wake)
            if run:
                run.on_phase.remove(wake.set)

    async def _read(self, summary: RunSummary) -> RunSummary:
        """The summary as it is now, or the same while the database is unavailable."""
        try:
            async with self._database.records.connection() as connection:
                (summary,) = await read_runs(connection, summary["id"]) or [summary]
        except (psycopg.Error, PoolTimeout) as error:
            log.info("run %d: cannot read it: %s", summary["id"], one_line(error))
        return summary


def _has_ended(summary: RunSummary, run: Run | None) -> bool:
    return run.done.is_set() if run else summary["state"] != "running"


def _event(name: str, number: object, data: Mapping[str, Any]) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def progress_of(run: Run) -> Progress:
    """The progress of a run of this process: bytes read, good records, seconds."""
    present = {
        **run.summary,
        "state": "running",
        "phase": run.phase,
        "seconds": round(time.monotonic() - run.began, 3),
        "files": [
            {**file.summary, "total_bytes": file.total_bytes} for file in run.files
        ],
        "steps": [vars(step) for step in run.steps],
    }
    is_loading = run.phase == "load" and run.files
    file = run.files[-1].file if is_loading else run.sql_file
    return {**progress_in(present), "file": file, "total_bytes": run.bytes_to_load}


def progress_in(summary: RunSummary) -> Progress:
    """The same of a run of another server, as far as its summary says."""
    files = [{"total_bytes": file["bytes"], **file} for file in summary["files"]]
    return {
        **{key: summary[key] for key in ("id", "state", "phase")},
        "file": None,
        "bytes": sum(file["bytes"] for file in files),
        "total_bytes": sum(file["total_bytes"] for file in files),
        "rows": sum(file["records"] - file["rejected"] for file in files),
        "seconds": summary["seconds"],
        "files": [{key: file[key] for key in FILE_KEYS} for file in files],
        "steps": [{key: step[key] for key in STEP_KEYS} for step in summary["steps"]],
    }
