"""The rows of a query as a stream of JSON or CSV, made by Postgres."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from psycopg import AsyncConnection, sql
from psycopg.abc import Buffer

#: Bytes that are gathered before they go to the client: a write costs more than a row.
CHUNK_BYTES = 1 << 16


async def stream_json(
    connection: AsyncConnection, query: sql.Composable
) -> AsyncGenerator[bytes]:
    """All rows of ``query``, whose one column is JSON, as one array, a row a line.

    One statement, so one snapshot. ``COPY`` in its CSV form would quote a value that
    holds a delimiter, a quote or a line end; JSON text never holds the control
    characters that are named here, nor a bare line end, so it comes as it is.
    """
    options = "format csv, delimiter e'\\x02', quote e'\\x01', encoding 'UTF8'"
    gathered, before = bytearray(b"["), b"\n"
    async for row in _rows(connection, query, options):
        gathered += before
        gathered += memoryview(row)[:-1]  # without its newline
        before = b",\n"
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    gathered += b"]\n" if before == b"\n" else b"\n]\n"
    yield bytes(gathered)


def as_objects(query: sql.Composable) -> sql.Composed:
    """The rows of ``query`` as JSON objects."""
    return sql.SQL("select row_to_json(entries) from ({}) as entries").format(query)


async def stream_csv(
    connection: AsyncConnection, query: sql.Composable
) -> AsyncGenerator[bytes]:
    """All rows of ``query`` as CSV with a header line."""
    gathered = bytearray()
    async for row in _rows(connection, query, "format csv, header, encoding 'UTF8'"):
        gathered += row
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def _rows(
    connection: AsyncConnection, query: sql.Composable, options: str
) -> AsyncGenerator[Buffer]:
    statement = sql.SQL("copy ({query}) to stdout ({options})").format(
        query=query, options=sql.SQL(options)
    )
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for row in copy:
            yield row
