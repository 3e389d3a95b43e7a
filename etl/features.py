"""The query behind ``GET /features``: rows of the table as JSON, made by Postgres.

Columns, types and the key come from the catalog; the table's name is all it knows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from psycopg import AsyncConnection, DataError, sql

#: Bytes that are gathered before they go to the client: a write costs more than a row.
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Key:
    """The column of the table's primary key, and its type in SQL."""

    name: str
    type: str


async def read_key(connection: AsyncConnection) -> Key | None:
    """The key of ``features``; None where it has none of one column."""
    rows = await connection.execute(
        "select name, type from etl.feature_columns where is_key"
    )
    row = await rows.fetchone()
    return Key(*row) if row else None


async def stream_rows(
    connection: AsyncConnection, key: Key | None
) -> AsyncGenerator[bytes]:
    """All rows as one JSON array, a row a line, ordered by the key; in chunks.

    One statement, so one snapshot. ``COPY`` in its CSV form would quote a value that
    holds a delimiter, a quote or a line end; JSON text never holds the control
    characters that are named here, nor a bare line end, so it comes as it is.
    """
    order = sql.SQL(" order by {}").format(sql.Identifier(key.name)) if key else None
    statement = sql.SQL(
        "copy (select row_to_json(features) from features{order})"
        " to stdout (format csv, delimiter e'\\x02', quote e'\\x01', encoding 'UTF8')"
    ).format(order=order or sql.SQL(""))
    gathered, before = bytearray(b"["), b"\n"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for row in copy:
            gathered += before
            gathered += memoryview(row)[:-1]  # without its newline
            before = b",\n"
            if len(gathered) >= CHUNK_BYTES:
                yield bytes(gathered)
                gathered.clear()
    gathered += b"]\n" if before == b"\n" else b"\n]\n"
    yield bytes(gathered)


async def read_row(connection: AsyncConnection, key: Key, value: str) -> str | None:
    """The row with this key as a JSON object, or None; also where it can be no key."""
    statement = sql.SQL(
        "select row_to_json(features)::text from features where {name} = %s::{type}"
    ).format(name=sql.Identifier(key.name), type=sql.SQL(key.type))
    try:
        rows = await connection.execute(statement, [value])
    except DataError:
        return None
    row = await rows.fetchone()
    return str(row[0]) if row else None
