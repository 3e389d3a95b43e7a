"""What is known of a run, and its row in the database."""

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
from etl.run.steps import Step
from etl.run.streams import LoadedFile

Record = dict[str, Any]


@dataclass
class Run:
    """A run of this process: what is known of it so far, and how it ended.

    ``record`` is what ``/runs/{id}`` gives, as last read; ``fault`` is None until it
    failed; ``done`` is set when it is over, in whichever way. A change of ``phase`` is
    timed. ``sql_file`` is the one that began last in this phase; ``began`` is a time of
    the monotonic clock. What is in ``on_phase`` is called whenever a phase begins.
    ``ended_by`` is why it was told to end early; ``overrides`` are the parameters of
    the trigger that have checks only warn.
    """

    id: int
    dry: bool
    record: Record
    overrides: frozenset[str] = frozenset()
    files: list[LoadedFile] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bytes_to_load: int = 0
    fault: RunFault | None = None
    ended_by: RunFault | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    sql_file: str | None = None
    began: float = field(default_factory=time.monotonic)
    on_phase: list[Callable[[], None]] = field(default_factory=list)
    _phase: str | None = field(default=None, init=False)
    _entered: float = field(default=0.0, init=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def phase(self) -> str | None:
        """The phase that it is in, or that was its last."""
        return self._phase

    @phase.setter
    def phase(self, phase: str | None) -> None:
        self._seconds = self.seconds_by_phase()
        self._phase, self._entered = phase, time.perf_counter()
        self.sql_file = None
        for tell in self.on_phase:
            tell()

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
) -> list[Record]:
    """The records of all runs, newest first, or of the one of this ``number``.

    Of those older than another, and so many, where that is said. ``connection`` is
    autocommit.
    """
    values = {"id": number, "older_than": older_than, "limit": limit}
    leaderless: set[int] = set()
    while True:
        rows = await connection.execute(
            "select row_to_json(records) from etl.run_records as records"
            " where (%(id)s::bigint is null or id = %(id)s)"
            " and (%(older_than)s::bigint is null or id < %(older_than)s)"
            " order by id desc limit %(limit)s",
            values,
        )
        records = [record for (record,) in await rows.fetchall()]
        # Rows are of the statement's snapshot, locks of the moment: a run may have put
        # its end on record and gone between the two. What is still without a leader,
        # and without an end, in a later snapshot was interrupted indeed.
        found = {
            record["id"]
            for record in records
            if record["state"] == "interrupted" and record["finished_at"] is None
        }
        if found <= leaderless:
            return records
        leaderless |= found


async def note(connection: AsyncConnection, run: Run) -> Record:
    """Put what is known of a run on record, and read the record."""
    await count_reasons(connection, run.id, run.files)
    files = [file.summary for file in run.files]
    steps = [vars(step) for step in run.steps]
    record = await value_of(
        connection,
        "select etl.note_run(%s, %s, %s::json, %s::json, %s::json)",
        *(run.id, run.phase, *map(json.dumps, [files, steps, run.warnings])),
    )
    return dict(record)


async def value_of(connection: AsyncConnection, query: str, *values: object) -> Any:
    """The one value that ``query`` returns."""
    row = await (await connection.execute(query.encode(), values)).fetchone()
    return row[0] if row else None
