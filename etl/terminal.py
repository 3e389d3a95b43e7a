"""What a person sees of a run in the terminal: its progress, and the first rows.

Knows runs from outside, and the table's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from etl.catalog import read_catalog
from etl.database import Database
from etl.features import first_rows
from etl.records import Run

#: Rows of features that are shown; the widest a cell is printed, in characters.
FIRST_ROWS = 10
WIDEST_CELL = 32

#: Seconds between two looks at a run, and the width of its bar in characters.
REFRESH_SECONDS = 0.1
BAR_WIDTH = 30

NUMBERS = (int, float)


async def follow(run: Run) -> None:
    """Show how far a run is until it is over: a bar, or a line a phase in a pipe."""
    moving = sys.stdout.isatty()
    told = None
    while not run.done.is_set():
        if moving:
            print(f"\r\033[K{_progress(run)}", end="", flush=True)
        elif run.phase != told:
            told = run.phase
            print(f"run {run.id}: {told}", flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.done.wait(), REFRESH_SECONDS)
    if moving:
        print("\r\033[K", end="")
    if run.fault is None:
        print(_summary(run))


def _progress(run: Run) -> str:
    if run.phase != "load":
        return f"run {run.id}: {run.phase or 'starting'} …"
    done = sum(file.bytes for file in run.files)
    share = done / run.bytes_to_load if run.bytes_to_load else 0.0
    bar = ("#" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
    name = run.files[-1].file if run.files else ""
    return f"run {run.id}: load [{bar}] {share:4.0%} {name}"


def _summary(run: Run) -> str:
    lines = [f"run {run.id} {run.record['state']} in {run.record['seconds']} s"]
    for file in run.files:
        lines.append(f"  {file.file}: {file.records} records")
        if file.rejected:
            lines[-1] += f", {file.rejected} rejected"
    if any(file.rejected for file in run.files):
        lines.append(f"  why: in the table etl.rejects, and GET /runs/{run.id}/rejects")
    lines += [f"  warning: {warning}" for warning in run.warnings]
    return "\n".join(lines)


async def show_features(database: Database) -> None:
    """Print the first rows of features as a table, and where the others are."""
    async with database.readers.connection() as connection:
        catalog = await read_catalog(connection)
        cursor = await connection.execute(first_rows(catalog, FIRST_ROWS))
        names = [column.name for column in cursor.description or ()]
        rows = await cursor.fetchall()
        count = await (
            await connection.execute("select count(*) from features")
        ).fetchone()
    print(table(names, rows))
    total = count[0] if count else 0
    print(f"{len(rows)} of {total} rows of the table features in {database.place}")
    print("all of them: scripts/query.sh, or ./run.sh and GET /features")


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text: numbers to the right, long values cut, null left empty."""
    cells = [list(names), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [
        all(isinstance(row[i], NUMBERS) or row[i] is None for row in rows)
        and bool(rows)
        for i in range(len(names))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= WIDEST_CELL else text[: WIDEST_CELL - 1] + "…"
