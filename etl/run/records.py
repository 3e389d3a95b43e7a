"""What is known of a run, in this process and in its row of the database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from etl.errors import RunFault
from etl.run.rejects import count_reasons
from etl.run.steps import Result, Step
from etl.run.streams import LoadedFile

#: A run as ``/runs/{id}`` gives it.
RunSummary = dict[str, Any]


@dataclass
class Run:
    """A run of this process: what is known of it so far, and how it ended.

    ``summary`` is what ``/runs/{id}`` gives, as last read; ``fault`` is None until it
    has failed; ``done`` is set when it has ended, in whichever way. ``work`` is the
    task of its phases, ``ended_by`` why that was told to end early. Others may see its
    success while it ``is_committing``. Rows of the tables ``to_vacuum`` were replaced.
    A change of ``phase`` is timed, and calls what
    is in ``on_phase``; ``sql_file`` is the one that began last in this phase. ``began``
    is a time of the monotonic clock. Checks that say so only warn where it is
    to ``allow_empty`` files. ``results`` are those of SQL files that ran, by their
    paths, as far as they are of use to later runs. An ``is_full`` one does all from
    nothing. It is ``unchanged`` if it had nothing to do.
    """

    id: int
    dry: bool
    summary: RunSummary
    allow_empty: bool = False
    is_full: bool = False
    unchanged: bool = False
    files: list[LoadedFile] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    bytes_to_load: int = 0
    fault: RunFault | None = None
    ended_by: RunFault | None = None
    work: asyncio.Task[None] | None = None
    is_committing: bool = False
    to_vacuum: set[str] = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    sql_file: str | None = None
    waits_for: str | None = None
    began: float = field(default_factory=time.monotonic)
    on_phase: list[Callable[[], None]] = field(default_factory=list)
    _phase: str | None = field(default=None, init=False)
    _entered: float = field(default=0.0, init=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def is_ending(self) -> bool:
        """Whether nothing is left to do but to commit, or to record its end."""
        return self.is_committing or (self.work is not None and self.work.done())

    def end_early(self, fault: RunFault) -> bool:
        """End its work for this reason, or the first that was given; False if that has
        ended already. It can still succeed: it may be committing at this moment.
        """
        if self.work is None or self.work.done() or self.summary["state"] != "running":
            return False
        if self.ended_by is None:  # a second cancellation could disturb the end
            self.ended_by = fault
            self.work.cancel()
        return True

    @property
    def phase(self) -> str | None:
        """The phase that it is in, or that was its last."""
        return self._phase

    @phase.setter
    def phase(self, phase: str | None) -> None:
        self._seconds = self.seconds_by_phase()
        self._phase, self._entered = phase, time.perf_counter()
        self.sql_file = None
        for call in self.on_phase:
            call()

    def seconds_by_phase(self) -> dict[str, float]:
        """The seconds spent in each phase so far, the present one included."""
        seconds = dict(self._seconds)
        if self._phase is not None:
            spent = time.perf_counter() - self._entered
            seconds[self._phase] = seconds.get(self._phase, 0.0) + spent
        return seconds


async def read_runs(
    connection: AsyncConnection,
    number: int | None = None,
    *,
    older_than: int | None = None,
    limit: int | None = None,
) -> list[RunSummary]:
    """Summaries of runs, newest first: of all, of the one of this ``number``, of those
    older than another one, and at most ``limit``. ``connection`` is autocommit.
    """
    rows = await connection.execute(
        "select row_to_json(records) from etl.run_records as records"
        " where (%(id)s::bigint is null or id = %(id)s)"
        " and (%(older_than)s::bigint is null or id < %(older_than)s)"
        " order by id desc limit %(limit)s",
        {"id": number, "older_than": older_than, "limit": limit},
    )
    return [summary for (summary,) in await rows.fetchall()]


async def save_run(
    connection: AsyncConnection, run: Run, state: str = "running"
) -> RunSummary:
    """Save what is known of a run, unless its end is recorded; what is recorded then.

    With another ``state`` than running it has ended.
    """
    error = str(run.fault) if run.fault else None
    await count_reasons(connection, run.id, run.files)
    files = [file.summary for file in run.files]
    steps = [vars(step) for step in run.steps]
    results = [{"file": path, **vars(each)} for path, each in run.results.items()]
    cursor = await connection.execute(
        "select etl.update_run(%s, %s, %s, %s, %s::json, %s::json, %s::json, %s,"
        " %s::json, %s)",
        [
            *(run.id, state, error, run.phase),
            *map(json.dumps, [files, steps, run.warnings]),
            *(run.unchanged, json.dumps(results), time.monotonic() - run.began),
        ],
    )
    (summary,) = await cursor.fetchone() or ({},)
    return dict(summary)


async def enter(run: Run, lead: AsyncConnection, phase: str) -> None:
    """Put on record that a phase begins."""
    run.phase = phase
    run.summary = await save_run(lead, run)
