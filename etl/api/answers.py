"""The answers of ``/features``, also with ``facet``, and of ``/features/{key}``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import TypeVar

from aiohttp import ETag, web
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE
from etl.errors import BadParameter, NotAcceptable, RangeNotSatisfiable, RequestError
from etl.http.addresses import client_network, page_links
from etl.http.headers import attachment
from etl.http.negotiation import (
    check_profile,
    choose_format,
    content_range,
    preferences_of,
)
from etl.http.representations import Representation, coding_of
from etl.http.sending import send_rows
from etl.postgres.shares import Shares
from etl.postgres.transactions import local
from etl.reading.catalog import Catalog
from etl.reading.exports import CONTENT_TYPES, as_array, stream
from etl.reading.facets import count_values, read_facets
from etl.reading.query import (
    MAX_CACHED,
    MAX_PAGE_ROWS,
    Preferences,
    Query,
    digest,
    read_query,
    read_select,
)
from etl.reading.reader import (
    REFUSALS,
    Page,
    Reader,
    StaleCatalog,
    checked,
    in_timezone,
    read_page,
    refusal_of,
)
from etl.reading.scanner import is_text
from etl.reading.statements import rows

READER = web.AppKey("reader", Reader)

#: Whose long query is parsed next.
TURNS = web.AppKey("turns", Shares)

T = TypeVar("T")

#: Attempts at an answer, if the table changes its columns meanwhile.
MAX_ATTEMPTS = 3

#: The headers that choose a representation.
VARY = "Accept, Accept-Encoding, Accept-Profile, Prefer, Range, Range-Unit"


async def features(request: web.Request) -> web.StreamResponse:
    """The rows that a query selects, or with ``facet`` the values of columns."""
    answer = _facets if "facet" in request.query else _rows
    return await answer(request)


async def _rows(request: web.Request) -> web.StreamResponse:
    """The rows that the query string and the headers ask for."""
    asked = preferences_of(request)
    if len(request.query.getall("after", [])) > 1:
        raise BadParameter("parameter 'after' is given more than once")
    after = request.query.get("after")
    parameters = tuple(each for each in request.query.items() if each[0] != "after")

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        query = await in_turn(request, lambda: read_query(parameters, catalog, asked))
        if query.offset and after is not None:
            raise BadParameter("after is one way to page, offset another: send one")
        form = _representation(request, query, query.digest, after)
        if not_modified := await _unchanged(form, catalog):
            return not_modified
        answer = _Answer(query, after, form)
        if query.format not in ("csv", "ndjson"):
            page = await answer.page(request.app[READER])
            if page is not None:
                return page
        return await send_rows(request, request.app[DATABASE], answer.open_rows)

    return await _with_catalog(request, attempt)


async def _facets(request: web.Request) -> web.StreamResponse:
    """The commonest values of the columns that the query string names."""
    accepted = choose_format(request.headers.get("Accept", ""), ("json",))
    asked = Preferences(accepted, timezone=preferences_of(request).timezone)
    parameters = tuple(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        facets = await in_turn(request, lambda: read_facets(parameters, catalog, asked))
        form = _representation(request, facets.query, parameters, asked)
        if not_modified := await _unchanged(form, catalog):
            return not_modified
        readers = request.app[DATABASE].readers
        async with (
            readers.connection_for(client_network(request)) as connection,
            in_timezone(connection, asked.timezone),
        ):
            return form.answer(*await count_values(connection, facets))

    return await _with_catalog(request, attempt)


async def feature(request: web.Request) -> web.StreamResponse:
    """The row whose key the path names."""
    reader, key = request.app[READER], request.match_info["key"]
    if choose_format(request.headers.get("Accept", ""), ("json",)) is None:
        raise NotAcceptable("a row is given as application/json")
    parameters = tuple(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        query = await in_turn(request, lambda: read_select(parameters, catalog))
        if len(catalog.key) != 1:
            raise BadParameter("features has no key of one column", 404)
        if not is_text(key):
            raise _no_row(catalog, key)
        form = Representation(request, digest(key, query.digest), "Accept")
        if not_modified := await _unchanged(form, catalog):
            return not_modified
        # Whole rows share a statement, whoever asks, and the share of nobody.
        client = client_network(request) if parameters else None
        published, row = await reader.row(query, key, client=client)
        if row is None:
            raise _no_row(catalog, key)
        return form.answer(published, row.encode())

    return await _with_catalog(request, attempt)


def _no_row(catalog: Catalog, key: str) -> RequestError:
    return RequestError(
        f"features has no row whose {catalog.key[0].name} is {key!r}", 404
    )


async def in_turn(request: web.Request, parse: Callable[[], T]) -> T:
    """What a query string says, parsed at once if it is short.

    One of 64 KiB takes 50 ms, in which nobody else is answered. So of one client only
    one is parsed before others have their turn, however many it sends at once.
    """
    if len(request.query_string) <= MAX_CACHED:
        return parse()
    async with request.app[TURNS].of(client_network(request)):
        await asyncio.sleep(0)
        return parse()


def _representation(
    request: web.Request, query: Query, *parts: Hashable
) -> Representation:
    """The form of an answer that these parts identify; by the clock always another."""
    now = time.time_ns() if query.reads_clock else None
    return Representation(request, digest(*parts, now), VARY, coding_of(request))


async def _unchanged(form: Representation, catalog: Catalog) -> web.Response | None:
    """A 304 without reading a row, if the client has this representation.

    Of what a condition ``*`` names only the rows say whether it is there. Raises
    StaleCatalog.
    """
    request = form.request
    if not request.if_none_match or ETag("*") in request.if_none_match:
        return None
    return form.not_modified(checked(catalog, await request.app[READER].published()))


async def _with_catalog(
    request: web.Request, attempt: Callable[[Catalog], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Attempt it with the catalog in use, and again if the table has changed."""
    reader = request.app[READER]
    attempts = 0
    while True:
        attempts += 1
        catalog = reader.catalog
        try:
            check_profile(request, catalog)
            return await attempt(catalog)
        except (StaleCatalog, BadParameter, *REFUSALS) as error:
            await reader.refresh()
            # Another request may have read the catalog again already.
            if attempts == MAX_ATTEMPTS or reader.catalog is catalog:
                raise refusal_of(error) from None


@dataclass(frozen=True)
class _Answer:
    """The answer to a query, as a page or as a stream."""

    query: Query
    after: str | None
    form: Representation

    async def page(self, reader: Reader) -> web.Response | None:
        """All rows that the query asks for; None if they are too many for a page."""
        query, client = self.query, client_network(self.form.request)
        limit = min(query.most_rows, 1 if query.is_single else MAX_PAGE_ROWS)
        page = await reader.page(query, self.after, limit, client=client)
        found = page.found if query.limit is None else min(page.found, query.limit)
        if query.is_single and found != 1:
            counting = replace(query, count="exact", is_short=False)
            counted = await reader.page(
                counting, None, 0, client=client, with_rows=False
            )
            number = _between(query, counted.total or 0)
            raise NotAcceptable(
                f"one row is asked for, and there are {number}",
                code="PGRST116",
                message="Cannot coerce the result to a single JSON object",
                details=f"The result contains {number} rows",
            )
        if found > limit:
            return None
        if not_modified := self.form.not_modified(page.published):
            return not_modified
        response = web.Response()
        self._describe(response, page)
        rows = page.rows
        response.body = (rows or "").encode() if query.is_single else as_array(rows)
        return response

    async def open_rows(
        self, connection: AsyncConnection, response: web.StreamResponse
    ) -> AsyncGenerator[bytes]:
        """Open a stream of the rows."""
        query, most = self.query, self.query.most_rows
        if query.asked.timezone:
            await connection.execute(local({"timezone": query.asked.timezone}))
        page = await read_page(connection, query, self.after, most, with_rows=False)
        self._describe(response, page)
        selected = rows(query, self.after)
        return stream(connection, selected, query.format, bom=query.has_bom)

    def _describe(self, response: web.StreamResponse, page: Page) -> None:
        """Set status and headers.

        Raises RangeNotSatisfiable, which only a counted answer can be.
        """
        query, total = self.query, page.total
        found: int | None = min(page.found, query.most_rows)
        if query.limit is None and page.found > query.most_rows:
            found = _between(query, total or 0) if query.count == "exact" else None
        if query.asked.count and total is not None:
            if query.offset > total:
                raise RangeNotSatisfiable(
                    f"An offset of {query.offset} was requested, but there are only"
                    f" {total} rows.",
                    total,
                )
            if found is not None and found < total:
                response.set_status(206)
        headers = response.headers
        headers["Content-Type"] = CONTENT_TYPES[query.format]
        if query.format == "csv":
            headers.update(attachment("features.csv"))
        if query.asked.applied:
            headers["Preference-Applied"] = query.asked.applied
        # How many rows are before a cursor is not known.
        known = None if self.after else found
        if shown := content_range(query.offset, known, total):
            headers["Content-Range"] = shown
        if total is not None and query.count == "exact":
            headers["X-Total-Count"] = str(total)
        headers.update(page_links(self.form.request, **self._following(page)))
        self.form.describe(response, page.published)

    def _following(self, page: Page) -> dict[str, str]:
        """The parameters of the next page, none if this is the last one.

        A client that pages by Range sends another Range, not another URL.
        """
        first, limit = self.query.offset, self.query.limit
        if not limit or page.found <= limit or self.query.asked.range:
            return {}
        if page.cursor is not None:
            return {"after": page.cursor}
        return {"offset": str(first + limit), "limit": str(limit)}


def _between(query: Query, total: int) -> int:
    """How many of all rows are between limit and offset."""
    rest = max(total - query.offset, 0)
    return rest if query.limit is None else min(rest, query.limit)
