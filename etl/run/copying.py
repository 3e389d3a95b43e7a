"""COPY into Postgres: blocks of a file into its table, raw records beside it.

Knows how a file is written, and nothing of what is in it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice

from psycopg import AsyncConnection, DataError, sql

from etl.csvfiles.blocks import MAX_RECORDS_AT_ONCE, Block, CsvRecord
from etl.run.streams import Stream

#: Sends the regular records of a block; returns their number.
CopyBlock = Callable[[AsyncConnection, Stream, Block], Awaitable[int]]

RAW_RECORDS = b"copy pg_temp.raw_records from stdin with (encoding 'UTF8')"

#: A line that ends COPY before PostgreSQL 18, also inside quotes.
END_OF_COPY = re.compile(rb"^\\\.\r?$", re.MULTILINE)


def copy_statement(
    table: sql.Identifier,
    columns: Sequence[str],
    delimiter: str,
    *,
    quotes: bool = True,
) -> sql.Composed:
    """COPY into these columns of a table; an empty value is null, in quotes or not.

    So is a tab alone, which some files have after each comma: it stands for the
    column's default, and staging has none. Without ``quotes`` the data may hold neither
    these nor backslashes: COPY's text format reads them the same, in a seventh less
    time.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    default = sql.SQL("" if delimiter == "\t" else "default e'\\t', ")
    options = sql.SQL(
        "format csv, force_null ({names})" if quotes else "format text, null ''"
    )
    return sql.SQL(
        "copy {table} ({names}) from stdin with ({options}, delimiter {delimiter}, "
        "{default}encoding 'UTF8')"
    ).format(
        table=table,
        names=names,
        options=options.format(names=names),
        delimiter=sql.Literal(delimiter),
        default=default,
    )


async def copy_block(connection: AsyncConnection, stream: Stream, block: Block) -> int:
    """Send the regular records of a block; returns their number.

    Raises psycopg.DataError or IntegrityError where COPY refuses the block.
    """
    if not block.regular:
        return 0
    if b"\\." in block.regular and END_OF_COPY.search(block.regular):
        raise DataError("COPY would end at a line that is \\.")
    statement = copy_statement(
        stream.target,
        stream.table_columns,
        stream.header.delimiter,
        quotes=b'"' in block.regular or b"\\" in block.regular,
    )
    async with connection.cursor() as cursor:
        async with cursor.copy(statement) as copy:
            await copy.write(block.regular)
        return cursor.rowcount


async def in_parts(records: Iterator[CsvRecord]) -> AsyncIterator[list[CsvRecord]]:
    """Records in lists of a bounded length, each read in a thread."""
    while part := await asyncio.to_thread(
        lambda: list(islice(records, MAX_RECORDS_AT_ONCE))
    ):
        yield part


async def copy_raw_records(
    connection: AsyncConnection, records: Iterable[CsvRecord]
) -> None:
    """Send records as text with their lines, for SQL to parse."""
    async with connection.cursor() as cursor, cursor.copy(RAW_RECORDS) as copy:
        for record in records:
            await copy.write_row((record.line, record.text))
