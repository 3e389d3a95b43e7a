"""Transactions that save a round trip, and settings that last as long as they do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.errors import QueryCanceled

#: Begins a transaction whose statements all read one and the same state.
SNAPSHOT = sql.SQL("set transaction isolation level repeatable read, read only")

#: Before PostgreSQL 18 a server signals a cancellation twice, and one may come late.
MAX_ROLLBACKS = 3


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
        await connection.commit()
    except BaseException as error:
        with suppress(psycopg.Error):  # of a connection that is gone
            await _roll_back(connection)
        if not isinstance(error, psycopg.Rollback):
            raise


async def _roll_back(connection: AsyncConnection) -> None:
    """Roll back, also where a cancellation of what was done ends the ROLLBACK too: all
    further statements would fail.
    """
    for _ in range(MAX_ROLLBACKS):
        with suppress(QueryCanceled):
            await connection.rollback()
            return


def local(values: Mapping[str, str]) -> sql.Composed:
    """The statement that sets server settings until the end of the transaction."""
    settings = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value)
        for name, value in values.items()
    )
    return sql.SQL("select {}").format(settings)
