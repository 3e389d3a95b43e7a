"""The rows of a query as a stream of JSON, lines of JSON, or CSV, made by Postgres.

Python moves the bytes and never looks at a row.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from psycopg import AsyncConnection, errors, pq, sql
from psycopg.abc import Buffer, PQGen
from psycopg.waiting import Wait

#: Bytes that are gathered before they go to the client: a write costs more than a row.
CHUNK_BYTES = 1 << 16

#: COPY in its CSV form quotes a value that holds a delimiter, a quote or a line end;
#: JSON text never holds the control characters that are named here, nor a bare line
#: end, so it comes as it is.
COPY_OPTIONS = {
    "json": "format csv, delimiter e'\\x02', quote e'\\x01', encoding 'UTF8'",
    "ndjson": "format csv, delimiter e'\\x02', quote e'\\x01', encoding 'UTF8'",
    "csv": "format csv, header, encoding 'UTF8'",
}

#: zlib's own numbers for the two codings.
WINDOW_BITS = {"gzip": 31, "deflate": 15}

#: The quickest: a twelfth of the bytes for rows as JSON, on a core of its own.
LEVEL = 1

#: Bytes that are compressed at once here; more go to a thread.
INLINE_BYTES = 1 << 15


async def stream(
    connection: AsyncConnection, query: sql.Composable, form: str
) -> AsyncGenerator[bytes]:
    """All rows of ``query``: for JSON it has one column, and a row is a line."""
    before = b"[\n"
    async with aclosing(_copy(connection, query, COPY_OPTIONS[form])) as chunks:
        async for chunk in chunks:
            if form == "json":
                yield before + chunk[:-1].replace(b"\n", b",\n")
                before = b",\n"
            else:
                yield chunk
    if form == "json":
        yield b"[]\n" if before == b"[\n" else b"\n]\n"


def as_array(rows: str | None) -> bytes:
    """Rows that Postgres has joined already, in the form in which they are streamed."""
    return b"[]\n" if rows is None else b"[\n%b\n]\n" % rows.encode()


def as_objects(query: sql.Composable) -> sql.Composed:
    """The rows of ``query`` as JSON objects."""
    return sql.SQL("select row_to_json(entries.*) from ({}) as entries").format(query)


async def compressed(
    chunks: AsyncGenerator[bytes], coding: str
) -> AsyncGenerator[bytes]:
    """The chunks in a content coding."""
    encoder = zlib.compressobj(LEVEL, wbits=WINDOW_BITS[coding])
    async with aclosing(chunks):
        async for chunk in chunks:
            if packed := await asyncio.to_thread(encoder.compress, chunk):
                yield packed
    yield encoder.flush()


async def compress(body: bytes, coding: str) -> bytes:
    """A whole body in a content coding."""
    encoder = zlib.compressobj(LEVEL, wbits=WINDOW_BITS[coding])
    if len(body) <= INLINE_BYTES:
        return encoder.compress(body) + encoder.flush()
    return await asyncio.to_thread(encoder.compress, body) + encoder.flush()


async def _copy(
    connection: AsyncConnection, query: sql.Composable, options: str
) -> AsyncGenerator[bytes]:
    """What COPY sends, in chunks of whole rows."""
    statement = sql.SQL("copy ({query}) to stdout ({options})").format(
        query=query, options=sql.SQL(options)
    )
    async with connection.cursor() as cursor, cursor.copy(statement):
        ended = False
        while not ended:
            rows, ended = await connection.wait(_some_rows(connection.pgconn))
            if rows:
                yield b"".join(rows)
        await connection.wait(_end(connection.pgconn))


def _some_rows(server: pq.abc.PGconn) -> PQGen[tuple[list[Buffer], bool]]:
    """Rows for one chunk, and whether they were the last.

    psycopg's own loop comes back for every row, which costs twice as much as it costs
    Postgres to make them; this one takes all that have arrived.
    """
    rows: list[Buffer] = []
    size = 0
    while size < CHUNK_BYTES:
        length, row = server.get_copy_data(1)
        if length > 0:
            rows.append(row)
            size += length
        elif length < 0:
            return rows, True
        else:
            yield from _more(server)
    return rows, False


def _end(server: pq.abc.PGconn) -> PQGen[None]:
    """Read how a COPY has ended; raises the error that ended it."""
    failed = None
    while True:
        while server.is_busy():
            yield from _more(server)
        result = server.get_result()
        if result is None:
            break
        if result.status != pq.ExecStatus.COMMAND_OK:
            failed = errors.error_from_result(result)
    if failed is not None:
        raise failed


def _more(server: pq.abc.PGconn) -> PQGen[None]:
    while not (yield Wait.R):
        pass
    server.consume_input()
