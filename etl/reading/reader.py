"""Reads ``features``: the published version, rows by key, pages and streams.

Rows always come with the version that was published in the same snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from etl.errors import BadParameter
from etl.postgres.database import Database
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import local, transaction
from etl.reading import statements
from etl.reading.catalog import Catalog, read_catalog
from etl.reading.cursors import encode_cursor
from etl.reading.dataloader import DataLoader
from etl.reading.query import MAX_PAGE_ROWS, Query

#: Bytes of a statement that a connection keeps prepared. Each of its newest hundred is
#: kept by Postgres as a tree, of 0.1 MB for such a one and several for the longest.
MAX_PREPARED = 4096

#: What Postgres raises for a query that does not fit the columns, their types or what
#: it can do.
REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,  # of a domain
    psycopg.NotSupportedError,
    psycopg.ProgrammingError,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyArguments,
    psycopg.errors.TooManyColumns,
)

#: Those that PostgREST answers 404: also an operator that a type lacks is none.
UNDEFINED = (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable)


class StaleCatalog(Exception):
    """The table's columns are not those of the catalog in use."""


@dataclass(frozen=True)
class PublishedVersion:
    """What was published last: see the view etl.features_state.

    Run and time, in seconds since 1970, are None before the first run. ``columns`` is
    the digest of the table's columns.
    """

    run_id: int | None
    modified: int | None
    version: str
    columns: str


@dataclass(frozen=True)
class Page:
    """What is known of a query's rows; ``rows`` are JSON objects, a line each.

    ``found`` are the rows of the page, and one more if others follow. ``cursor`` is
    where the next page starts, None if this is the last one or there are no cursors.
    """

    published: PublishedVersion
    found: int
    total: int | None
    cursor: str | None
    rows: str | None


class Reader:
    """Reads with a catalog that it keeps until the table has changed."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self.catalog = catalog
        self._versions = DataLoader(self._load_versions)
        self._rows = DataLoader(self._load_rows)
        self._pages = DataLoader(self._load_pages)

    async def refresh(self) -> None:
        """Read the catalog again if the table has changed since it was read."""
        if (await self.published()).columns != self.catalog.digest:
            async with self._database.records.connection() as connection:
                self.catalog = await read_catalog(connection)

    async def published(self) -> PublishedVersion:
        """What was published last, without reading a row."""
        return await self._versions.load(None, None)

    async def row(
        self, query: Query, key: str, *, client: Hashable
    ) -> tuple[PublishedVersion, str | None]:
        """The row with this key as JSON, or None; ``key`` has no NUL.

        Requests of one client at once share a statement; None is for all clients
        together. A cast may fail for one row, and then fails for all of its statement:
        such a query shares none.
        """
        alone = object() if query.has_casts else None
        published, row = await self._rows.load((query, client, alone), key)
        return checked(query.catalog, published), row

    async def page(
        self,
        query: Query,
        after: str | None,
        limit: int,
        *,
        client: Hashable,
        with_rows: bool = True,
    ) -> Page:
        """A page of up to ``limit`` rows, or what is known of them without any.

        A client's requests for the same page at once share it. Two clients share none:
        one would wait with the other for that one's connections. Raises StaleCatalog.
        """
        return await self._pages.load((query, after, limit, with_rows, client), None)

    async def _load_versions(
        self, _: None, requests: Sequence[None]
    ) -> list[PublishedVersion]:
        async with self._database.records.connection() as connection:
            return [await read_published(connection)] * len(requests)

    async def _load_pages(
        self,
        kind: tuple[Query, str | None, int, bool, Hashable],
        requests: Sequence[None],
    ) -> list[Page]:
        query, after, limit, with_rows, client = kind
        async with (
            self._database.readers.connection_for(client) as connection,
            in_timezone(connection, query.asked.timezone),
        ):
            page = await read_page(connection, query, after, limit, with_rows=with_rows)
        return [page] * len(requests)

    async def _load_rows(
        self, kind: tuple[Query, Hashable, object], keys: Sequence[str]
    ) -> list[tuple[PublishedVersion, str | None]]:
        query, client, _ = kind
        async with self._database.readers.connection_for(client) as connection:
            statement = statements.rows_by_key(query)
            cursor = await execute(connection, statement, [list(keys)], binary=True)
            ((*published, rows),) = await cursor.fetchall()
        version = PublishedVersion(*published)
        return [(version, row) for row in rows]


async def execute(
    connection: AsyncConnection,
    statement: bytes,
    values: Sequence[object],
    *,
    binary: bool = False,
) -> AsyncRawCursor:
    """Execute a statement that clients repeat: a short one is prepared."""
    prepare = None if len(statement) <= MAX_PREPARED else False
    cursor = AsyncRawCursor(connection)
    return await cursor.execute(statement, values, prepare=prepare, binary=binary)


async def read_published(connection: AsyncConnection) -> PublishedVersion:
    """What was published last, in the connection's snapshot."""
    (row,) = await (await connection.execute(statements.PUBLISHED)).fetchall()
    return PublishedVersion(*row)


def in_timezone(
    connection: AsyncConnection, timezone: str | None
) -> AbstractAsyncContextManager[object]:
    """In a time zone, if one is given: then in a transaction, for which it lasts."""
    settings = timezone and local({"timezone": timezone})
    return transaction(connection, settings) if settings else nullcontext()


async def read_page(
    connection: AsyncConnection,
    query: Query,
    after: str | None,
    limit: int,
    *,
    with_rows: bool,
) -> Page:
    """A page of up to ``limit`` rows, or what precedes a stream.

    Raises StaleCatalog.
    """
    statement, values = statements.page(query, after, limit, with_rows=with_rows)
    found = await execute(connection, statement, values)
    ((*published, number, total, last, rows),) = await found.fetchall()
    version = checked(query.catalog, PublishedVersion(*published))
    if query.count == "planned" or (
        query.count == "estimated" and total > MAX_PAGE_ROWS
    ):
        explained = await connection.execute(statements.plan(query))
        (((plan,),),) = await explained.fetchall()
        total = max(int(plan["Plan"]["Plan Rows"]), total or 0)
    cursor = last and encode_cursor(json.loads(last), query.rows_digest)
    return Page(version, number, total, cursor, rows)


def refusal_of(error: Exception) -> Exception:
    """What Postgres refuses is an error of the request, with its words and its code;
    any other error stays what it is.
    """
    fault = psycopg.errors.InsufficientPrivilege  # of the service
    if not isinstance(error, REFUSALS) or isinstance(error, fault):
        return error
    if error.sqlstate is None:  # of psycopg itself
        return error
    return BadParameter(
        one_line(error),
        404 if isinstance(error, UNDEFINED) else 400,
        code=error.sqlstate,
        message=error.diag.message_primary,
        details=error.diag.message_detail,
        hint=error.diag.message_hint,
    )


def checked(catalog: Catalog, published: PublishedVersion) -> PublishedVersion:
    """The version, if its columns are those of the catalog; else StaleCatalog."""
    if published.columns != catalog.digest:
        raise StaleCatalog
    return published
