"""Reads ``features`` for its readers: the state, rows by key, pages, streams.

Whatever is read comes with the state of the same snapshot. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from etl.features import statements
from etl.features.catalog import Catalog, Column, read_catalog
from etl.features.exports import stream
from etl.features.filters import Value
from etl.features.paging import encode_place
from etl.features.queries import Query
from etl.http.caching import State
from etl.http.problems import BadParameter
from etl.postgres.database import Database
from etl.postgres.sqlerrors import one_line

#: Questions that are answered by one statement at most.
MOST_TOGETHER = 200

#: What Postgres raises for a value or an operator that does not fit a column.
REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,  # of a domain
    psycopg.errors.UndefinedFunction,
    psycopg.errors.AmbiguousFunction,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.FeatureNotSupported,
)

#: What it raises where the table has changed since its columns were read.
CHANGES = (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedObject)

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")


class StaleCatalog(Exception):
    """The table's columns are others than the catalog in use has."""


@dataclass(frozen=True)
class Page:
    """What is known of the rows that a query gives, and of a page the rows themselves.

    ``following`` is where the next page starts, None where none follows.
    """

    state: State
    total: int | None
    following: str | None
    rows: str | None = None


class Together(Generic[K, Q, A]):
    """Asks at once what many want to know.

    While one question is on its way to the database, others of its kind gather and go
    with the next: none waits for more than one before it, and none is answered from a
    snapshot older than itself.
    """

    def __init__(self, ask: Callable[[K, Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        self._ask = ask
        self._waiting: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, kind: K, question: Q) -> A:
        """The answer to one question."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if kind in self._waiting:
            self._waiting[kind].append((question, future))
        else:
            self._waiting[kind] = [(question, future)]
            task = asyncio.create_task(self._work(kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self, kind: K) -> None:
        waiting = self._waiting[kind]
        try:
            while waiting:
                await asyncio.sleep(0)  # who has arrived already comes along
                asked = waiting[:MOST_TOGETHER]
                del waiting[:MOST_TOGETHER]
                await self._answer(kind, asked)
        finally:
            del self._waiting[kind]
            for _, future in waiting:
                future.cancel()

    async def _answer(
        self, kind: K, asked: Sequence[tuple[Q, asyncio.Future[A]]]
    ) -> None:
        open_ones = [(question, it) for question, it in asked if not it.done()]
        try:
            answers = await self._ask(kind, [question for question, _ in open_ones])
        except BaseException as error:
            for _, future in open_ones:
                if isinstance(error, Exception) and not future.done():
                    future.set_exception(error)
                future.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), answer in zip(open_ones, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


class Reader:
    """Reads with a catalog that is kept, and read anew once the table has changed."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self.catalog = catalog
        self._states = Together(self._ask_states)
        self._rows = Together(self._ask_rows)
        self._pages = Together(self._ask_page)

    async def refresh(self) -> bool:
        """Read the catalog anew; whether the table has changed since it was read."""
        if (await self.published()).columns == self.catalog.digest:
            return False
        async with self._database.readers.connection() as connection:
            self.catalog = await read_catalog(connection)
        return True

    async def published(self) -> State:
        """What was published last, whatever columns it has."""
        return await self._states.answer(None, None)

    async def state(self, catalog: Catalog) -> State:
        """What was published last, without a look at the rows."""
        return _fresh(catalog, await self.published())

    async def row(
        self, catalog: Catalog, columns: tuple[Column, ...], key: str
    ) -> tuple[State, str | None]:
        """The row with this key as JSON, or None; ``key`` has no NUL."""
        state, row = await self._rows.answer((columns, catalog.key[0]), key)
        return _fresh(catalog, state), row

    async def page(self, catalog: Catalog, query: Query) -> Page:
        """A page whose rows are one text of JSON objects, a line each."""
        return _page(catalog, query, await self._pages.answer(query, None))

    async def open(
        self, connection: AsyncConnection, catalog: Catalog, query: Query
    ) -> tuple[Page, AsyncGenerator[bytes]]:
        """What is told before the rows, and the rows, all in the caller's snapshot."""
        found = await _one(connection, statements.opening(query.shape), query)
        page = _page(catalog, query, [*found, None])
        return page, stream(connection, statements.rows(query), query.format)

    async def refused(self, query: Query, error: psycopg.Error) -> BadParameter:
        """Which parameter it was that Postgres refused, and why."""
        async with self._database.readers.connection() as connection:
            for value in query.values:
                if why := await _why_refused(connection, value):
                    return BadParameter(why)
        return BadParameter(one_line(error))

    async def _ask_states(self, _: None, questions: Sequence[None]) -> list[State]:
        async with self._database.readers.connection() as connection:
            rows = await connection.execute(statements.STATE_STATEMENT)
            (found,) = await rows.fetchall()
        return [State(*found)] * len(questions)

    async def _ask_page(self, query: Query, questions: Sequence[None]) -> list[Any]:
        async with self._database.readers.connection() as connection:
            found = await _one(connection, statements.page(query.shape), query)
        return [found] * len(questions)

    async def _ask_rows(
        self, kind: tuple[tuple[Column, ...], Column], keys: Sequence[str]
    ) -> list[tuple[State, str | None]]:
        async with self._database.readers.connection() as connection:
            rows = await AsyncRawCursor(connection).execute(
                statements.rows_by_key(*kind), [list(keys)]
            )
            return [(State(*state), row) for *state, row in await rows.fetchall()]


async def _one(connection: AsyncConnection, statement: bytes, query: Query) -> Any:
    """The one row of a statement that takes the values of a query."""
    values = [value.text for value in query.values]
    rows = await AsyncRawCursor(connection).execute(statement, values)
    return await rows.fetchone()


def _page(catalog: Catalog, query: Query, found: Sequence[Any]) -> Page:
    *state, total, place, rows = found
    following = encode_place(json.loads(place), query.rows_digest) if place else None
    return Page(_fresh(catalog, State(*state)), total, following, rows)


def _fresh(catalog: Catalog, state: State) -> State:
    if state.columns != catalog.digest:
        raise StaleCatalog
    return state


async def _why_refused(connection: AsyncConnection, value: Value) -> str | None:
    """In words, where a value is none of its type."""
    rows = await connection.execute(
        "select message from pg_input_error_info(%s, %s) where message is not null",
        [value.text, value.type],
    )
    if (found := await rows.fetchone()) is None:
        return None
    return f"{value.source} takes a value of type {value.type}: {found[0]}"
