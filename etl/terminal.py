"""What a person sees of a run in the terminal: its progress, rejects and first rows.

Knows runs from outside, and the table's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row

from etl.postgres.database import Database
from etl.reading.catalog import read_catalog
from etl.reading.statements import first_rows
from etl.run.records import Run
from etl.run.rejects import START, rejects_of
from etl.texttable import cut, printable, table

#: Rows of features that are shown, rejects, and characters of a value in one of these.
FIRST_ROWS, FIRST_REJECTS, WIDEST_VALUE = 10, 5, 60

#: Seconds between two looks at a run, and the width of its bar in characters.
REFRESH_SECONDS = 0.1
BAR_WIDTH = 24

#: The phases in their order, for the bar.
PHASES = ("load", "clean", "build", "check", "publish")

#: The units of sizes, each a thousand of the one before.
UNITS = ("bytes", "kB", "MB", "GB", "TB")


async def follow(run: Run) -> None:
    """Show how far a run is until it is over: a bar, or a line a phase in a pipe."""
    width = terminal_width()
    told = None
    while not run.done.is_set():
        if width:
            print(f"\r\033[K{progress(run, width)}", end="", flush=True)
        elif run.phase != told:
            told = run.phase
            print(f"run {run.id}: {told}", flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.done.wait(), REFRESH_SECONDS)
    if width:
        print("\r\033[K", end="")
    if run.fault is None:
        print(_summary(run))


def terminal_width() -> int | None:
    """How many characters a line has; None where nobody looks at a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def progress(run: Run, width: int) -> str:
    """A line that says how far a run is, less than ``width`` wide: it is redrawn."""
    phase = run.phase or "start"
    seconds = f"{time.monotonic() - run.began:.1f} s"
    if phase == "load":
        records = sum(file.records for file in run.files)
        done = sum(file.bytes for file in run.files)
        share = min(done / run.bytes_to_load, 1.0) if run.bytes_to_load else 1.0
        name = run.files[-1].file if run.files else ""
        words = f"{share:4.0%}  {records:,} records  {seconds}  {name}"
    else:
        share = (PHASES.index(phase) if phase in PHASES else 0) / len(PHASES)
        words = f"{seconds}  {run.sql_file or ''}"
    bar = ("#" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
    return cut(f"run {run.id}  {phase:7}  [{bar}] {words}".rstrip(), width - 1)


def _summary(run: Run) -> str:
    """How a run went that succeeded: a line a file, and what may be wrong."""
    names = ("file", "records", "rejected", "size")
    rows = [
        (file.file, _grouped(file.records), _grouped(file.rejected), _size(file.bytes))
        for file in run.files
    ]
    lines = [f"run {run.id} {run.summary['state']} in {run.summary['seconds']} s", ""]
    lines += table(names, rows, right=names[1:]).splitlines()
    lines += [f"warning: {warning}" for warning in run.warnings]
    return "\n".join([*lines, ""])


async def show_rejects(database: Database, run: Run) -> None:
    """Print how many records were rejected for which reason, and the first errors."""
    files = [file for file in run.files if file.rejected_by_reason]
    if not files:
        return
    async with database.readers.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(rejects_of(run.id, START, FIRST_REJECTS))
        first = await cursor.fetchall()
    lines = ["rejected records by reason"]
    for file in files:
        counts = file.rejected_by_reason.items()
        reasons = [f"{_grouped(records)} {reason}" for reason, records in counts]
        lines.append(f"  {file.file}: {', '.join(reasons)}")
    lines += ["the first errors", *(f"  {_reject(entry)}" for entry in first)]
    lines.append(f"all of them: the table etl.rejects, and GET /runs/{run.id}/rejects")
    print(printable("\n".join(lines), keep="\n"), end="\n\n", flush=True)


def _reject(entry: dict[str, Any]) -> str:
    """One reject: where, what, and why."""
    place = f"{entry['file']}, line {entry['line']}"
    if entry["column"] is not None:
        value = cut(printable(entry["value"] or ""), WIDEST_VALUE)
        place += f", column {entry['column']}, value {value!r}"
    return f"{place}: {entry['message']}"


def _grouped(number: int) -> str:
    return f"{number:,}"


def _size(count: float) -> str:
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == UNITS[0] else f"{count:,.1f} {unit}"


def command(script: str, pipeline: Path | None) -> str:
    """How a person calls a script for a pipeline; None is the project's own."""
    return script if pipeline is None else f"{script} {shlex.quote(str(pipeline))}"


async def show_features(database: Database, pipeline: Path | None) -> None:
    """Print the first rows of features as a table, and where the others are."""
    async with database.readers.connection() as connection:
        catalog = await read_catalog(connection)
        cursor = await connection.execute(first_rows(catalog, FIRST_ROWS))
        names = [column.name for column in cursor.description or ()]
        rows = await cursor.fetchall()
        count = await (
            await connection.execute("select count(*) from features")
        ).fetchone()
    print(table(names, rows, width=terminal_width()))
    total = count[0] if count else 0
    print()
    print(f"{len(rows)} of {total:,} rows of the table features in {database.location}")
    query, serve = command("scripts/query.sh", pipeline), command("./run.sh", pipeline)
    print(f"all of them: {query}, or {serve} and GET /features")
