"""The CSV files of a run and the tables that they fill.

Knows that ``<name>.csv`` goes to ``staging.<name>``, and no table by name.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path

from psycopg import AsyncConnection, sql

from etl.csvfiles.blocks import MOST_RECORDS_AT_ONCE, Block, BlockReader, Choice, Record
from etl.csvfiles.forms import Column, Forms, forms_of
from etl.csvfiles.headers import Header, recognise_header
from etl.csvfiles.textfile import TextFile
from etl.errors import DataFault, ServiceFault

#: Unknown columns that a warning names, and columns that a file may have.
SHOWN_COLUMNS, MOST_COLUMNS = 5, 1000

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
    ``total_bytes`` so many ``bytes`` were read.
    """

    file: str
    total_bytes: int
    bytes: int = 0
    sha256: str = ""
    records: int = 0
    rejected: int = 0


@dataclass
class Stream:
    """A file on its way into its table.

    ``table`` is the table, ``statement`` the COPY that takes its blocks, and
    ``unquoted_statement`` one that does so faster where they hold no quotes. ``blocks``
    are those that were loaded, without their records, by the transaction that did it;
    ``unloaded`` are the bytes that are still to come; ``lines`` of the whole file are
    counted where it matters.
    """

    source: Source
    file: LoadedFile
    opened: TextFile
    reader: BlockReader
    header: Header
    forms: Forms
    table: sql.Identifier
    statement: sql.Composed
    unquoted_statement: sql.Composed
    unloaded: int
    blocks: dict[int, Block] = field(default_factory=dict)
    lines: int | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether all of its blocks are."""
        return self.unloaded <= 0

    def records_of(
        self, block: Block, showing: Mapping[str, Collection[str]] | None = None
    ) -> Iterator[list[Record]]:
        """The records of a block, read again from the file, in lists of a bounded
        length; only those that show one of the values of a column, where these are
        given. Raises DataFault.
        """
        choose = iter if showing is None else self._choice(showing)
        records = self.reader.records_of(block, self.forms, choose)
        while some := list(islice(records, MOST_RECORDS_AT_ONCE)):
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
    *,
    strict: bool,
) -> list[Stream]:
    """Open the file of every source, before any is loaded; ``files`` closes them.

    Where ``strict``, every record is matched with what is plain, whatever it costs.

    ``warn`` is told of columns that a source lacks: they are skipped. Raises DataFault
    where a file cannot be read or its header is wrong, ServiceFault where a plain form
    is no regular expression.
    """
    sources = await read_sources(connection)
    paths = [data_dir / f"{source.name}.csv" for source in sources]
    readers = await asyncio.to_thread(_open_readers, paths, block_size, files)
    streams = []
    for source, path, (opened, reader) in zip(sources, paths, readers, strict=True):
        columns = {column.name: column for column in source.columns}
        header = recognise_header(path.name, reader.header_line, list(columns))
        if len(header.columns) > MOST_COLUMNS:
            raise DataFault(
                f"{path.name}: has {len(header.columns)} columns, and {MOST_COLUMNS} "
                "are the most: leave out those that nobody needs"
            )
        table = sql.Identifier("staging", source.name)
        if header.unknown:
            names = ", ".join(map(repr, header.unknown[:SHOWN_COLUMNS]))
            names += ", …" if len(header.unknown) > SHOWN_COLUMNS else ""
            word = "columns" if len(header.unknown) > 1 else "column"
            what = f"{word} {names}"
            warn(f"{path.name}: staging.{source.name} lacks the {what}: skipped")
            table = await _widen(connection, source, header)
        try:
            forms = forms_of(list(map(columns.get, header.columns)), header.delimiter)
        except re.error as error:
            raise ServiceFault(
                f"staging.{source.name}: a plain form is no regular expression: {error}"
            ) from None
        if strict:
            forms = replace(forms, frame=None)
        streams.append(
            Stream(
                source=source,
                file=LoadedFile(path.name, opened.size),
                opened=opened,
                reader=reader,
                header=header,
                forms=forms,
                table=table,
                statement=copy_statement(table, header),
                unquoted_statement=copy_statement(table, header, quotes=False),
                unloaded=opened.size - reader.offset,
            )
        )
    return streams


def _open_readers(
    paths: Sequence[Path], block_size: int, files: ExitStack
) -> list[tuple[TextFile, BlockReader]]:
    """Open all files and read their header lines. Raises DataFault."""
    readers = []
    for path in paths:
        opened = TextFile(path)
        files.callback(opened.close)
        readers.append((opened, BlockReader(opened, block_size)))
    return readers


async def _widen(
    connection: AsyncConnection, source: Source, header: Header
) -> sql.Identifier:
    """A table that has the file's unknown columns too: COPY cannot skip them."""
    known = {column.name for column in source.columns}
    more = [name for name in header.columns if name not in known]
    row = await connection.execute("select etl.widen(%s, %s)", [source.name, more])
    (name,) = await row.fetchone() or ("",)
    return sql.Identifier("etl", name)


def as_arrays(records: Sequence[Record]) -> tuple[str, str]:
    """The texts of records and their lines, as Postgres writes text[] and bigint[].

    Psycopg would dump 20,000 of them in 47 ms, and holds up all other threads then.
    """
    texts = "\0".join(record.text for record in records)  # which no text holds
    texts = texts.replace("\\", r"\\").replace('"', r"\"").replace("\0", '","')
    lines = ",".join(str(record.line) for record in records)
    return f'{{"{texts}"}}', f"{{{lines}}}"


def copy_statement(
    table: sql.Identifier, header: Header, *, quotes: bool = True
) -> sql.Composed:
    """COPY into a table; an empty value is null, in quotes or not.

    So is a tab alone, the blank that follows each comma in some files: it stands for
    the column's default, and staging has none. Without ``quotes`` the data may hold
    neither these nor backslashes: then COPY's text form reads them alike, in a seventh
    less time.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, header.columns))
    default = sql.SQL("" if header.delimiter == "\t" else "default e'\\t', ")
    form = sql.SQL(
        "format csv, force_null ({names})" if quotes else "format text, null ''"
    )
    return sql.SQL(
        "copy {table} ({names}) from stdin with ({form}, delimiter {delimiter}, "
        "{default}encoding 'UTF8')"
    ).format(
        table=table,
        names=names,
        form=form.format(names=names),
        delimiter=sql.Literal(header.delimiter),
        default=default,
    )
