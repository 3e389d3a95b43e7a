"""What is told of a run to those who listen: how far it is, and how it ended.

Made once a run, however many listen, from what this process knows already; only a run
of another server is looked up. Knows nothing of how a listener is sent what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from etl.postgres.database import Database
from etl.postgres.sqlerrors import one_line
from etl.run.records import Run, RunSummary, read_runs

#: Seconds between two looks at a run of this process, and at one of another server.
REFRESH_SECONDS, POLL_SECONDS = 0.2, 1.0

#: What the last event is called: a listener who comes back with it needs no other.
LAST_EVENT_ID = "end"

Progress = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """A server-sent event as text.

    One that ``is_passing`` is left out where a newer one comes before it is sent; after
    one that ``is_last`` there is nothing to wait for.
    """

    text: bytes
    is_passing: bool = False
    is_last: bool = False


#: Where there is no more to tell, though the run may go on.
NOTHING = Event(b"", is_last=True)


def progress_of(run: Run) -> Progress:
    """How far a run of this process is: bytes of the files, records loaded, seconds."""
    files = [
        {
            "file": file.file,
            "bytes": file.bytes,
            "total_bytes": file.total_bytes,
            "records": file.records,
            "rejected": file.rejected,
        }
        for file in run.files
    ]
    steps = [
        {"file": step.file, "rows": step.rows, "milliseconds": step.milliseconds}
        for step in run.steps
    ]
    loading = run.files[-1].file if run.phase == "load" and run.files else None
    return {
        "id": run.id,
        "state": "running",
        "phase": run.phase,
        "file": loading or run.sql_file,
        "bytes": sum(file.bytes for file in run.files),
        "total_bytes": run.bytes_to_load,
        "rows": sum(file.records - file.rejected for file in run.files),
        "seconds": round(time.monotonic() - run.began, 3),
        "files": files,
        "steps": steps,
    }


def progress_on_record(record: RunSummary) -> Progress:
    """The same of a run of another server, as far as its record tells."""
    names = ("bytes", "records", "rejected")
    files = [
        {"file": file["file"], "total_bytes": file["bytes"]}
        | {name: file[name] for name in names}
        for file in record["files"]
    ]
    steps = [
        {name: step[name] for name in ("file", "rows", "milliseconds")}
        for step in record["steps"]
    ]
    done = sum(file["bytes"] for file in files)
    return {
        **{name: record[name] for name in ("id", "state", "phase")},
        "file": None,
        "bytes": done,
        "total_bytes": done,
        "rows": sum(file["records"] - file["rejected"] for file in files),
        "seconds": record["seconds"],
        "files": files,
        "steps": steps,
    }


def end_of(record: RunSummary) -> Event:
    """The last event of a run: its record as ``/runs/{id}`` gives it."""
    return Event(_text("end", LAST_EVENT_ID, record), is_last=True)


def _text(name: str, number: object, data: RunSummary) -> bytes:
    text = f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
    return text.encode()


class Listener:
    """One who listens: the events that it was not sent yet."""

    def __init__(self, *events: Event) -> None:
        self._events = deque(events)
        self._is_some = asyncio.Event()
        if events:
            self._is_some.set()

    def put(self, event: Event) -> None:
        """Add an event; few wait, however slow the listener is."""
        if self._events and self._events[-1].is_passing:
            self._events.pop()
        self._events.append(event)
        self._is_some.set()

    async def get(self) -> Event:
        """The next event, once there is one."""
        await self._is_some.wait()
        event = self._events.popleft()
        if not self._events:
            self._is_some.clear()
        return event


class Feed:
    """The events of one run, and all who listen to it."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self._told: Progress = {}
        self._number = 0
        self._present: Event | None = None

    @contextlib.contextmanager
    def listen(self) -> Iterator[Listener]:
        """One more listener while in here; it is told the present state at once."""
        listener = Listener(*filter(None, [self._present]))
        self.listeners.add(listener)
        try:
            yield listener
        finally:
            self.listeners.discard(listener)

    def tell(self, progress: Progress, *, is_passing: bool = True) -> None:
        """Tell how far the run is, unless that is what was told last."""
        if self._told == {**progress, "seconds": self._told.get("seconds")}:
            return
        self._told = progress
        self._number += 1
        text = _text("progress", self._number, progress)
        self.put(Event(text, is_passing=is_passing))

    def put(self, event: Event) -> None:
        """Send an event to all who listen, and to those who come before the next."""
        self._present = event
        for listener in self.listeners:
            listener.put(event)


class Events:
    """The feeds of all runs that somebody listens to, each kept for as long."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[int, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(len(feed.listeners) for feed in self._feeds.values())

    @contextlib.contextmanager
    def listen(self, record: RunSummary, run: Run | None) -> Iterator[Listener]:
        """A listener to the run with this record; ``run`` is it, where it is ours."""
        if run is None and record["state"] != "running":
            yield Listener(end_of(record))
            return
        if self._is_stopped:
            yield Listener(NOTHING)
            return
        number = record["id"]
        feed = self._feeds.get(number)
        if feed is None:
            feed = self._feeds[number] = Feed()
            task = asyncio.create_task(self._follow(feed, record, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with feed.listen() as listener:
            yield listener

    async def stop(self) -> None:
        """Let go of all who listen; those to a run that is over are told its end."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for feed in self._feeds.values():  # whose task had not even begun
            feed.put(NOTHING)

    async def _follow(self, feed: Feed, record: RunSummary, run: Run | None) -> None:
        """Fill a feed until its run is over or nobody listens any more."""
        try:
            await (self._watch(feed, run) if run else self._poll(feed, record))
        finally:
            del self._feeds[record["id"]]
            feed.put(NOTHING)

    async def _watch(self, feed: Feed, run: Run) -> None:
        """A run of this process: its own words, and no look at the database."""

        def tell() -> None:
            feed.tell(progress_of(run), is_passing=False)

        run.on_phase.append(tell)
        try:
            while feed.listeners and not run.done.is_set():
                feed.tell(progress_of(run))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(run.done.wait(), REFRESH_SECONDS)
        finally:
            run.on_phase.remove(tell)
            if run.done.is_set():
                feed.put(end_of(run.summary))

    async def _poll(self, feed: Feed, record: RunSummary) -> None:
        """A run of another server: what its record tells."""
        while record["state"] == "running":
            feed.tell(progress_on_record(record))
            await asyncio.sleep(POLL_SECONDS)
            if not feed.listeners:
                return
            try:
                async with self._database.readers.connection() as connection:
                    records = await read_runs(connection, record["id"])
            except (psycopg.Error, PoolTimeout) as error:
                log.info("run %d: no look: %s", record["id"], one_line(error))
                continue
            if not records:
                return  # it was forgotten
            record = records[0]
        feed.put(end_of(record))
