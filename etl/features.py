"""The query behind ``GET /features``: rows of the table as JSON, made by Postgres.

Columns, types and the key come from the catalog; the table's name is all it knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection, DataError, sql


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


def all_rows(key: Key | None) -> sql.Composed:
    """The query for all rows as JSON objects, ordered by the key."""
    order = sql.SQL(" order by {}").format(sql.Identifier(key.name)) if key else None
    return sql.SQL("select row_to_json(features) from features{order}").format(
        order=order or sql.SQL("")
    )


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
