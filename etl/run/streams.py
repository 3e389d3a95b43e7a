"""The CSV files of a run and the tables that they fill.

Knows that ``<name>.csv`` goes to ``staging.<name>``, and no table by name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path
from typing import Any

from psycopg import sql

from etl.csvfiles.blocks import Block, BlockReader, CsvRecord
from etl.csvfiles.headers import Header
from etl.csvfiles.patterns import Column
from etl.csvfiles.textfile import TextFile, printable

#: Unknown columns and long values that warnings name.
MAX_SHOWN = 5

#: Lines that a value may span before a warning asks for its quotes.
MAX_LINES = 20

#: Part of a file, in bytes, up to which appended records change little: statistics of
#: the table remain good, and rows that they change are worth being looked for.
MAX_NEW_SHARE = 0.2

#: What the summary of a run says of a file.
SUMMARY = (
    *("file", "bytes", "sha256", "load", "records", "records_loaded"),
    *("rejected", "rejected_by_reason", "header"),
)

#: A value in quotes, at the start of a field.
QUOTED_FIELD = r'(?:\A|%s)[ \t]*("[^"]*(?:""[^"]*)*")'


@dataclass
class LoadedFile:
    """What a run reports of a file; the numbers grow while it is loaded.

    ``load`` says whether its table was ``kept``, its last records were ``appended`` to
    that, or all were ``loaded``. ``records`` are all that the file has, the
    ``records_kept`` and the ``rejected`` ones among them; of its ``total_bytes`` so
    many ``bytes`` were read. ``rejected_by_reason`` are records too, and those with two
    reasons count for each; so many are ``consequences`` of other rejected records. Both
    are as of when ``counted`` records were rejected. ``header`` is its text.
    """

    file: str
    total_bytes: int
    header: str
    bytes: int = 0
    sha256: str = ""
    load: str = "loaded"
    records: int = 0
    records_kept: int = 0
    rejected: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    consequences: int = 0
    counted: int = 0

    def add_reason(self, reason: str, is_consequence: bool, records: int) -> None:
        """Count records that are rejected for a reason."""
        before = self.rejected_by_reason.get(reason, 0)
        self.rejected_by_reason[reason] = before + records
        self.consequences += records if is_consequence else 0

    @property
    def records_loaded(self) -> int:
        """The records that were read in this run."""
        return self.records - self.records_kept

    @property
    def summary(self) -> dict[str, Any]:
        """Its part of the run's summary."""
        return {name: getattr(self, name) for name in SUMMARY}


@dataclass
class Stream:
    """A file on its way into its table.

    ``table_columns`` are the columns that COPY fills, in the file's order: those that
    the table lacks go to the ``skipped`` ones, ``skipped_1`` and so on. Its
    records follow ``start`` bytes of header; the first ``kept_bytes`` were loaded by an
    earlier run. ``blocks`` are those that were loaded, without their bytes;
    ``long_values`` are the first that span many lines.
    """

    source: str
    file: LoadedFile
    opened: TextFile
    reader: BlockReader
    table_columns: list[str]
    skipped: list[str]
    start: int
    kept_bytes: int = 0
    blocks: list[Block] = field(default_factory=list)
    long_values: list[tuple[int, int]] = field(default_factory=list)

    @property
    def header(self) -> Header:
        """The header of the file."""
        return self.reader.header

    @property
    def target(self) -> sql.Identifier:
        """The table that its records go to."""
        return sql.Identifier(self.target_schema, self.source)

    @property
    def target_schema(self) -> str:
        """The schema of that table: a few appended records are known by their own."""
        return "appended" if self.is_apart else "staging"

    @property
    def is_apart(self) -> bool:
        """Whether appended records are few, and first go to a table of their own."""
        return self.file.load == "appended" and not self.is_mostly_new

    @property
    def is_mostly_new(self) -> bool:
        """Whether its table, as far as it was kept, says little about it now."""
        new = self.opened.size - self.kept_bytes
        return new > MAX_NEW_SHARE * self.opened.size

    @property
    def is_loaded(self) -> bool:
        """Whether all of its blocks are."""
        loaded = sum(block.length for block in self.blocks)
        return self.start + loaded >= self.opened.size

    def max_records(self) -> int:
        """How many records the file has at most, those to come included: one a line.

        Until it is loaded, this reads the file once. Raises DataFault.
        """
        return self.file.records if self.is_loaded else self.opened.lines

    def records_of(self, block: Block) -> Iterator[CsvRecord]:
        """The records of a block, read again from the file. Raises DataFault."""
        for line, record in self.reader.records_of(block):
            yield self.reader.csv_record(line, record)

    def long_values_of(self, block: Block) -> list[tuple[int, int]]:
        """Values over more than MAX_LINES lines in a block that was loaded: where each
        begins, and how many lines it has. Raises DataFault where the file was changed.
        """
        quoted = re.compile(QUOTED_FIELD % re.escape(self.header.delimiter))
        return [
            (record.line + record.text.count("\n", 0, value.start(1)), lines)
            for record in self.records_of(block)
            if record.text.count("\n") >= MAX_LINES
            for value in quoted.finditer(record.text)
            if (lines := 1 + value[1].count("\n")) > MAX_LINES
        ]

    def column_warnings(self) -> Iterator[str]:
        """What may be wrong with the columns of the file."""
        if unknown := self.header.unknown:
            names = ", ".join(repr(printable(each)) for each in unknown[:MAX_SHOWN])
            names += ", …" if len(unknown) > MAX_SHOWN else ""
            columns = "columns" if len(unknown) > 1 else "column"
            yield (
                f"{self.file.file}: staging.{self.source} lacks the "
                f"{columns} {names}: skipped"
            )

    def value_warnings(self) -> Iterator[str]:
        """What may be wrong with its values."""
        for line, lines in self.long_values:
            yield (
                f"{self.file.file}, line {line}: a value in quotes spans {lines} lines:"
                " is a quote out of place?"
            )


async def open_streams(
    rows: Sequence[Sequence[Any]],
    data_dir: Path,
    block_size: int,
    files: AsyncExitStack,
) -> list[Stream]:
    """Open the file of every staging table, before any is loaded, in the order of their
    names; ``files`` closes them. ``rows`` are columns of these tables: the source, and
    what Column has.

    Raises DataFault where a file cannot be read or its header is wrong.
    """
    streams = []
    for source, rows_of_source in groupby(rows, key=lambda row: row[0]):
        columns = [Column(*row[1:]) for row in rows_of_source]
        opened = TextFile(data_dir / f"{source}.csv")
        files.callback(opened.close)
        reader = await asyncio.to_thread(BlockReader, opened, columns, block_size)
        header = reader.header
        known, numbers = {column.name for column in columns}, count(1)
        table_columns = [
            name if name in known else f"skipped_{next(numbers)}"
            for name in header.columns
        ]
        skipped = [name for name in table_columns if name not in known]
        file = LoadedFile(opened.name, opened.size, header.text)
        streams.append(
            Stream(source, file, opened, reader, table_columns, skipped, reader.offset)
        )
    return streams
