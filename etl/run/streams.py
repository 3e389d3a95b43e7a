"""The CSV files of a run and the tables that they fill.

Knows that ``<name>.csv`` goes to ``staging.<name>``, and no table by name.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, sql

from etl.csvfiles.blocks import MAX_RECORDS_AT_ONCE, Block, BlockReader, CsvRecord
from etl.csvfiles.headers import Header
from etl.csvfiles.patterns import Column, RecordPatterns, compile_patterns
from etl.csvfiles.textfile import TextFile, printable
from etl.errors import DataFault, ServiceFault
from etl.run.sending import copy_statement

#: Leaves some of the records that are given with their lines; each has its line end.
Choice = Callable[[Iterable[tuple[int, bytes]]], Iterable[tuple[int, bytes]]]

#: Unknown columns, and long values, that warnings name; columns that a file may have.
SHOWN, MOST_COLUMNS = 5, 1000

#: Lines that a value may span before a warning asks for its quotes.
MAX_LINES = 20

#: A value in quotes, where a field begins: before it stand blanks and a delimiter.
QUOTED_FIELD = r'(?:\A|%s)[ \t]*("[^"]*(?:""[^"]*)*")'

#: Bytes around a value in its field.
AROUND = b' \t\r\n"'


@dataclass(frozen=True)
class Source:
    """A staging table and its columns: what ``<name>.csv`` is loaded into."""

    name: str
    columns: tuple[Column, ...]


@dataclass
class LoadedFile:
    """What is told of a file of a run; the numbers grow while it is loaded.

    ``records`` are all that the file has, the ``rejected`` ones among them; of its
    ``total_bytes`` so many ``bytes`` were read. ``rejected_by_reason`` are records too,
    and those with two reasons count for each; so many are ``consequences`` of other
    rejected records. Both are of the time when ``counted`` records were rejected.
    """

    file: str
    total_bytes: int
    bytes: int = 0
    sha256: str = ""
    records: int = 0
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
    def record(self) -> dict[str, Any]:
        """What a run's record tells of it."""
        names = ("file", "bytes", "sha256", "records", "rejected", "rejected_by_reason")
        return {name: getattr(self, name) for name in names}


@dataclass
class Stream:
    """A file on its way into its table.

    ``table`` is the table, ``statement`` the COPY that takes its blocks, and
    ``unquoted_statement`` one that does so faster where they hold no quotes. ``blocks``
    are those that were loaded, without their records, by the transaction that did it;
    ``unloaded`` are the bytes that are still to come; ``lines`` of the whole file are
    counted where it matters; ``long_values`` are the first that span many lines.
    """

    source: Source
    file: LoadedFile
    opened: TextFile
    reader: BlockReader
    header: Header
    patterns: RecordPatterns
    table: sql.Identifier
    statement: sql.Composed
    unquoted_statement: sql.Composed
    unloaded: int
    blocks: dict[int, Block] = field(default_factory=dict)
    lines: int | None = None
    long_values: list[tuple[int, int]] = field(default_factory=list)

    def find_long_values(self, block: Block) -> None:
        """Look for values over more than MAX_LINES lines in a block that was loaded.

        Keeps the first of them in the file, with their line and number of lines. Raises
        DataFault where the file was changed.
        """

        def choose(records: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
            return (each for each in records if each[1].count(b"\n") > MAX_LINES)

        quoted = re.compile(QUOTED_FIELD % re.escape(self.header.delimiter))
        for each in choose(self.reader.records_of(block, self.patterns)):
            record = self.reader.csv_record(*each)
            for value in quoted.finditer(record.text):
                if (lines := 1 + value[1].count("\n")) > MAX_LINES:
                    line = record.line + record.text.count("\n", 0, value.start(1))
                    self.long_values.append((line, lines))
        self.long_values = sorted(self.long_values)[:SHOWN]

    def warnings(self) -> Iterator[str]:
        """What may be wrong with the values of the file."""
        for line, lines in self.long_values:
            yield (
                f"{self.file.file}, line {line}: a value in quotes spans {lines} lines:"
                " is a quote out of place?"
            )

    @property
    def is_loaded(self) -> bool:
        """Whether all of its blocks are."""
        return self.unloaded <= 0

    def records_of(
        self, block: Block, showing: Mapping[str, Collection[str]] | None = None
    ) -> Iterator[list[CsvRecord]]:
        """The records of a block, read again from the file, in lists of a bounded
        length; only those that show one of the values of a column, where these are
        given. Raises DataFault.
        """
        choose = iter if showing is None else self._choice(showing)
        records = (
            self.reader.csv_record(*each)
            for each in choose(self.reader.records_of(block, self.patterns))
        )
        while some := list(islice(records, MAX_RECORDS_AT_ONCE)):
            yield some

    def _choice(self, values: Mapping[str, Collection[str]]) -> Choice:
        """Leaves the records that have one of the values in their column, as far as
        that is seen without a look at quotes.
        """
        delimiter = self.header.delimiter.encode()
        columns = self.header.columns
        sought = [
            (columns.index(column), {text.encode() for text in texts})
            for column, texts in values.items()
            if column in columns
        ]
        last = max((place for place, _ in sought), default=0)

        def choose(records: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
            for line, record in records:
                fields = record.split(delimiter, last + 1)
                for place, texts in sought:
                    if place < len(fields) and fields[place].strip(AROUND) in texts:
                        yield line, record
                        break

        return choose

    @property
    def most_records(self) -> int:
        """How many records the file has at most, those to come included.

        A good one takes at least a byte a column: its delimiters and its line end.
        """
        to_come = max(self.unloaded, 0) // len(self.header.columns)
        return min(self.file.records + to_come, self.lines or sys.maxsize)


async def read_sources(connection: AsyncConnection) -> list[Source]:
    """The staging tables, by name."""
    rows = await connection.execute(
        "select source, column_name, is_required, is_text, plain, frame, separator"
        " from etl.source_columns order by source, position"
    )
    return [
        Source(name, tuple(Column(*column) for _, *column in columns))
        for name, columns in groupby(await rows.fetchall(), key=lambda row: row[0])
    ]


async def open_streams(
    connection: AsyncConnection,
    data_dir: Path,
    block_size: int,
    warn: Callable[[str], None],
    files: ExitStack,
) -> list[Stream]:
    """Open the file of every source, before any is loaded; ``files`` closes them.

    ``warn`` is told of columns that a source lacks: they are skipped. Raises DataFault
    where a file cannot be read or its header is wrong, ServiceFault where a plain form
    is no regular expression.
    """
    sources = await read_sources(connection)
    readers = await asyncio.to_thread(
        _open_readers, data_dir, sources, block_size, files
    )
    streams = []
    for source, (opened, reader) in zip(sources, readers, strict=True):
        header = reader.header
        if len(header.columns) > MOST_COLUMNS:
            raise DataFault(
                f"{opened.name}: has {len(header.columns)} columns, and {MOST_COLUMNS} "
                "are the most: leave out those that nobody needs"
            )
        if header.unknown:
            names = ", ".join(repr(printable(each)) for each in header.unknown[:SHOWN])
            names += ", …" if len(header.unknown) > SHOWN else ""
            word = "columns" if len(header.unknown) > 1 else "column"
            what = f"{word} {names}"
            warn(f"{opened.name}: staging.{source.name} lacks the {what}: skipped")
        table = await _table_for(connection, source, header)
        try:
            patterns = compile_patterns(_columns_of(source, header), header.delimiter)
        except re.error as error:
            raise ServiceFault(
                f"staging.{source.name}: a plain form is no regular expression: {error}"
            ) from None
        streams.append(
            Stream(
                source=source,
                file=LoadedFile(opened.name, opened.size),
                opened=opened,
                reader=reader,
                header=header,
                patterns=patterns,
                table=table,
                statement=copy_statement(table, header),
                unquoted_statement=copy_statement(table, header, quotes=False),
                unloaded=opened.size - reader.offset,
            )
        )
    return streams


def _open_readers(
    data_dir: Path, sources: Sequence[Source], block_size: int, files: ExitStack
) -> list[tuple[TextFile, BlockReader]]:
    """Open all files and read their headers. Raises DataFault."""
    readers = []
    for source in sources:
        opened = TextFile(data_dir / f"{source.name}.csv")
        files.callback(opened.close)
        known = [column.name for column in source.columns]
        readers.append((opened, BlockReader(opened, known, block_size)))
    return readers


def _columns_of(source: Source, header: Header) -> list[Column | None]:
    """The columns as records are matched with them; None for an unknown one."""
    known = {column.name: column for column in source.columns}
    return [
        Column(name, is_required=False, is_text=False, pattern="", skeleton="")
        if is_blank
        else known.get(name)
        for name, is_blank in zip(header.columns, header.is_blank, strict=True)
    ]


async def _table_for(
    connection: AsyncConnection, source: Source, header: Header
) -> sql.Identifier:
    """The table that COPY fills: one that has the file's unknown columns too, where
    there are any, since COPY cannot skip them.
    """
    known = {column.name for column in source.columns}
    more = [name for name in header.columns if name not in known]
    if not more:
        return sql.Identifier("staging", source.name)
    row = await connection.execute("select etl.widen(%s, %s)", [source.name, more])
    (name,) = await row.fetchone() or ("",)
    return sql.Identifier("etl", name)
