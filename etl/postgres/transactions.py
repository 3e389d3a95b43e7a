"""Transactions that save a round trip, and settings that last as long as they do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql

#: Begins a transaction whose statements all read one and the same state.
SNAPSHOT = sql.SQL("set transaction isolation level repeatable read, read only")


@asynccontextmanager
async def transaction(
    connection: AsyncConnection, first: sql.Composable
) -> AsyncIterator[AsyncCursor]:
    """A transaction whose ``first`` statement travels with its BEGIN, and a cursor with
    what that returned. It saves a round trip, of which a small run has little else.

    ``psycopg.Rollback`` undoes it and goes no further, any other error does both.
    """
    try:
        cursor = await connection.execute(sql.SQL("begin; {}").format(first))
        cursor.nextset()
        yield cursor
    except BaseException as error:
        with suppress(psycopg.Error):  # of a connection that is gone
            await connection.rollback()
        if isinstance(error, psycopg.Rollback):
            return
        raise
    await connection.commit()


def local(values: Mapping[str, str]) -> sql.Composed:
    """The statement that sets server settings until the end of the transaction."""
    settings = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value)
        for name, value in values.items()
    )
    return sql.SQL("select {}").format(settings)
