"""The formats of rows, and a stream of them as Postgres's COPY makes it.

Python moves the bytes and never parses a row.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from contextlib import aclosing

from psycopg import AsyncConnection, errors, pq, sql
from psycopg.abc import Buffer, PQGen
from psycopg.generators import fetch_many
from psycopg.waiting import Wait

#: The formats by their names, the default first.
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}

#: Formats of PostgREST: JSON as one object, or without null members, or both.
VENDOR_TYPES = {
    "object": "application/vnd.pgrst.object+json",
    "object-stripped": "application/vnd.pgrst.object+json;nulls=stripped",
    "array-stripped": "application/vnd.pgrst.array+json;nulls=stripped",
}

#: The headers of answers in all of these formats.
CONTENT_TYPES = {
    **MEDIA_TYPES,
    **{name: f"{kind}; charset=utf-8" for name, kind in VENDOR_TYPES.items()},
    "csv": "text/csv; charset=utf-8",
}

#: Bytes that are gathered before they are sent: a write costs more than a row.
CHUNK_BYTES = 1 << 16

#: COPY in its CSV format quotes a value that holds a delimiter, a quote or a line end.
#: JSON text holds none of the control characters named here, and no bare line end, so
#: it is copied unchanged.
JSON_OPTIONS = sql.SQL("format csv, delimiter e'\\x02', quote e'\\x01'")
CSV_OPTIONS = sql.SQL("format csv, header")


async def stream(
    connection: AsyncConnection, query: sql.Composable, form: str, *, bom: bool = False
) -> AsyncGenerator[bytes]:
    """All rows of ``query`` in a format; but for CSV they are one column of objects.

    With ``bom`` they begin with a byte-order mark, by which Excel knows UTF-8.
    """
    options = CSV_OPTIONS if form == "csv" else JSON_OPTIONS
    is_array = form not in ("csv", "ndjson")
    before = b"[\n"
    if bom:
        yield codecs.BOM_UTF8
    async with aclosing(_copy(connection, query, options)) as chunks:
        async for chunk in chunks:
            if is_array:
                yield before + chunk[:-1].replace(b"\n", b",\n")
                before = b",\n"
            else:
                yield chunk
    if is_array:
        yield b"[]\n" if before == b"[\n" else b"\n]\n"


async def stream_file(
    connection: AsyncConnection, header: str, records: sql.Composable
) -> AsyncGenerator[bytes]:
    """A CSV file with this header, of records that a query has as texts: as they are,
    and with the line end of the header.
    """
    end = "\r\n" if header.endswith("\r\n") else "\n"
    statement = sql.SQL("copy ({}) to stdout").format(records)
    texts, size = [header], 0
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for (text,) in copy.rows():
            texts.append(text + end)
            size += len(text)
            if size >= CHUNK_BYTES:
                yield "".join(texts).encode()
                texts, size = [], 0
    yield "".join(texts).encode()


def as_array(rows: str | None) -> bytes:
    """JSON objects that Postgres has joined already, in the form of a stream."""
    return b"[]\n" if rows is None else b"[\n%b\n]\n" % rows.encode()


def as_objects(query: sql.Composable, *, strip_nulls: bool = False) -> sql.Composed:
    """The rows of ``query`` as JSON objects, or without their null members."""
    row = sql.SQL("json_strip_nulls({})" if strip_nulls else "{}").format(
        sql.SQL("row_to_json(entries.*)")
    )
    return sql.SQL("select {} from ({}) as entries").format(row, query)


async def _copy(
    connection: AsyncConnection, query: sql.Composable, options: sql.Composable
) -> AsyncGenerator[bytes]:
    """The output of COPY in chunks of whole rows.

    psycopg's own iteration returns to the event loop for every row, and makes a stream
    a third to two thirds slower; this takes all rows that have arrived.
    """
    statement = sql.SQL("copy ({query}) to stdout ({options}, encoding 'UTF8')")
    server = connection.pgconn
    rows: list[Buffer] = []
    size = 0
    async with (
        connection.cursor() as cursor,
        cursor.copy(statement.format(query=query, options=options)),
    ):
        while (received := server.get_copy_data(1))[0] >= 0:
            length, row = received
            if length == 0:
                await connection.wait(_receive(server))
                continue
            rows.append(row)
            size += length
            if size >= CHUNK_BYTES:
                yield b"".join(rows)
                rows, size = [], 0
        # Before the last rows, so that a small answer that fails has not begun.
        for result in await connection.wait(fetch_many(server)):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
        if rows:
            yield b"".join(rows)


def _receive(server: pq.abc.PGconn) -> PQGen[None]:
    """Wait for more data from the server."""
    while not (yield Wait.R):
        pass
    server.consume_input()
