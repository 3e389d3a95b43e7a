"""What a person sees of a run in the terminal: its progress, rejects and first rows.

Knows runs from outside, and the table's name. In a pipe there are lines alone, which
are never wrapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from psycopg.rows import dict_row
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TimeElapsedColumn
from rich.table import Table

from etl.postgres.database import Database
from etl.reading.catalog import read_catalog
from etl.reading.statements import first_rows
from etl.run.records import Run
from etl.run.rejects import START, Rejects
from etl.run.streams import LoadedFile
from etl.standardstreams import print_text

#: Rows of features to print, rejects, and characters of a value in one of these.
FIRST_ROWS, FIRST_REJECTS, MAX_VALUE = 10, 5, 60

#: Seconds between two updates of the progress.
REFRESH_SECONDS = 0.1

#: The phases in their order, each an equal part of the bar.
PHASES = ("load", "clean", "build", "check", "publish")

#: The columns of a line in a pipe: more than any table has.
PIPE_WIDTH = 100_000


async def show_progress(run: Run) -> None:
    """Show how far a run is until it has finished: a bar, or a line per phase in a
    pipe.
    """
    console = _console()
    bar = Progress(
        "run {task.fields[run]}  {task.description:7}",
        BarColumn(),
        TimeElapsedColumn(),
        "{task.fields[detail]}",
        console=console,
        auto_refresh=False,  # that would take a thread
        transient=True,
        disable=not console.is_interactive,
    )
    task = bar.add_task("load", total=len(PHASES), run=run.id, detail="")
    reported = None
    with bar:
        while not run.done.is_set():
            phase, detail = run.phase or PHASES[0], run.sql_file or ""
            done = float(PHASES.index(phase))
            if phase == "load" and run.files:
                records = sum(file.records for file in run.files)
                detail = f"{records:,} records  {run.files[-1].file}"
                total = run.bytes_to_load or 1
                done += min(sum(file.bytes for file in run.files) / total, 1)
            bar.update(
                task,
                completed=done,
                description=phase,
                detail=escape(printable(detail)),
                refresh=True,
            )
            if bar.disable and phase != reported:
                reported = phase
                print_text(f"run {run.id}: {phase}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.done.wait(), REFRESH_SECONDS)


def show_files(run: Run) -> None:
    """Sum up a run that succeeded, by file."""
    unchanged = ": nothing has changed" if run.unchanged else ""
    seconds = run.summary["seconds"]
    print_text(f"run {run.id} {run.summary['state']} in {seconds} s{unchanged}\n")
    names = ("file", "records", "this run", "rejected", "size")
    rows = [
        (file.file, file.records, _load(file), file.rejected, decimal(file.bytes))
        for file in run.files
    ]
    print_text(as_table(_console(), names, rows))
    for warning in run.warnings:
        print_text(f"warning: {printable(warning)}")
    print_text()


def _load(file: LoadedFile) -> str:
    """What a run did with a file, in words."""
    if file.load == "appended":
        return f"{file.records_loaded:,} appended"
    return file.load


async def show_rejects(database: Database, run: Run) -> None:
    """Print how many records were rejected for which reason, and the first errors."""
    files = [file for file in run.files if file.rejected_by_reason]
    if not files:
        return
    async with database.readers.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(Rejects(run.id).rows(START, FIRST_REJECTS))
        first = await cursor.fetchall()
    print_text("rejected records by reason")
    for file in files:
        reasons = file.rejected_by_reason.items()
        counts = ", ".join(f"{records:,} {reason}" for reason, records in reasons)
        print_text(f"  {printable(file.file)}: {counts}")
    print_text("the first errors")
    for reject in first:
        column, value = reject["column"], brief(reject["value"])
        where = f", column {column}, value {value!r}" if column is not None else ""
        line = f"{reject['file']}, line {reject['line']}{where}: {reject['message']}"
        print_text(f"  {printable(line)}")
    print_text(f"all of them: the table etl.rejects, and GET /runs/{run.id}/rejects\n")


async def show_features(database: Database, pipeline: Path | None) -> None:
    """Print the first rows of features as a table, and where the others are."""
    async with database.readers.connection() as connection:
        catalog = await read_catalog(connection)
        cursor = await connection.execute(first_rows(catalog, FIRST_ROWS))
        names = [column.name for column in cursor.description or ()]
        rows = await cursor.fetchall()
        counted = await connection.execute("select count(*) from features")
        ((total,),) = await counted.fetchall()
    print_text(as_table(_console(), names, rows))
    print_text(
        f"\n{len(rows)} of {total:,} rows of the table features in {database.location}"
    )
    query, serve = command("scripts/query.sh", pipeline), command("./run.sh", pipeline)
    print_text(f"all of them: {query}, or {serve} and GET /features")


def command(script: str, pipeline: Path | None) -> str:
    """How a person calls a script for a pipeline; None is the project's own."""
    return script if pipeline is None else f"{script} {shlex.quote(str(pipeline))}"


def as_table(
    console: Console, names: Sequence[str], rows: Sequence[Sequence[object]]
) -> str:
    """Rows as text, as wide as the console: numbers to the right, null left empty.

    In a terminal, long names are broken after their underscores.
    """
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )
    for i, name in enumerate(names):
        numbers = [isinstance(row[i], int | float | Decimal) for row in rows]
        table.add_column(
            name.replace("_", "_\n") if console.is_terminal else name,
            justify="right" if any(numbers) else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(brief, row))
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def brief(value: object) -> str:
    """A value as people read it: five digits of a fraction, the beginning of a text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}" if abs(value) < 1000 else f"{value:.2f}"
    text = printable(str(value))
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def printable(text: str) -> str:
    """A text without the characters that a terminal would act on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _console() -> Console:
    """Standard output, which takes values as they are: without markup and emoji."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console
