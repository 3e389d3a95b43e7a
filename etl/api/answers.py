"""The answers of ``/features`` and ``/features/{key}``: headers, status and body."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace

from aiohttp import ETag, web
from psycopg import AsyncConnection

from etl.errors import BadParameter, NotAcceptable, RangeNotSatisfiable
from etl.http.addresses import page_links
from etl.http.headers import disposition
from etl.http.negotiation import choose_coding, choose_format
from etl.http.preferences import check_profile, content_range, preferences_of
from etl.http.problems import NotThere
from etl.http.representations import Representation
from etl.http.sending import OpenRows, send_rows
from etl.postgres.database import Database
from etl.postgres.transactions import local
from etl.reading.catalog import Catalog
from etl.reading.exports import CONTENT_TYPES, as_array, stream
from etl.reading.query import (
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
    in_timezone,
    read_page,
    refused,
)
from etl.reading.scanner import is_text
from etl.reading.statements import rows

READER = web.AppKey("reader", Reader)

#: Attempts at an answer, if the table changes its columns meanwhile.
MAX_ATTEMPTS = 3

#: The headers that choose a representation.
VARY = "Accept, Accept-Encoding, Prefer, Range"


class NotSingle(NotAcceptable):
    """The client asks for one object, and there are none or several rows."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"one row is asked for, and there are {number}",
            code="PGRST116",
            message="Cannot coerce the result to a single JSON object",
            details=f"The result contains {number} rows",
        )


async def answer_features(
    request: web.Request, database: Database
) -> web.StreamResponse:
    """The rows that the query string and the headers ask for."""
    reader = request.app[READER]
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    asked, applied = preferences_of(request)
    cursors = request.query.getall("after", [])
    if len(cursors) > 1:
        raise BadParameter("parameter 'after' is given more than once")
    after = cursors[0] if cursors else None
    parameters = tuple(each for each in request.query.items() if each[0] != "after")

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        check_profile(request, catalog)
        query = read_query(catalog, parameters, asked)
        if query.offset and after is not None:
            raise BadParameter("after is one way to page, offset another: send one")
        form = Representation(digest(query.digest, after), VARY, coding)
        answer = _Answer(request, query, after, form, asked, applied)
        try:
            if request.if_none_match:
                published = await reader.published(catalog)
                if not_modified := form.not_modified(request, published):
                    return not_modified
            if query.format not in ("csv", "ndjson"):
                async with (
                    database.readers.connection() as connection,
                    in_timezone(connection, query.timezone),
                ):
                    page = await answer.page(connection, catalog)
                if page is not None:
                    return page
            return await send_rows(request, database, answer.open(catalog))
        except REFUSALS as error:
            raise refused(error) from error

    return await with_catalog(reader, attempt)


async def answer_feature(request: web.Request) -> web.StreamResponse:
    """The row whose key the path names."""
    reader, key = request.app[READER], request.match_info["key"]
    if choose_format(request.headers.get("Accept", ""), ("json",)) is None:
        raise NotAcceptable("a row is given as application/json")
    parameters = tuple(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        check_profile(request, catalog)
        query = read_select(catalog, parameters)
        if len(catalog.key) != 1:
            raise NotThere("features has no key of one column")
        missing = NotThere(
            f"features has no row whose {catalog.key[0].name} is {key!r}"
        )
        if not is_text(key):
            raise missing
        form = Representation(digest(key, query.digest), "Accept")
        if request.if_none_match and ETag("*") not in request.if_none_match:
            published = await reader.published(catalog)
            if answer := form.not_modified(request, published):
                return answer
        try:
            published, row = await reader.row(catalog, query, key)
        except REFUSALS as error:
            raise refused(error) from error
        if row is None:
            raise missing
        answer = form.not_modified(request, published) or web.Response(
            body=row.encode(), headers={"Content-Type": CONTENT_TYPES["json"]}
        )
        form.describe(answer, published)
        return answer

    return await with_catalog(reader, attempt)


async def with_catalog(
    reader: Reader, attempt: Callable[[Catalog], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Attempt it with the catalog in use, and again if the table has changed."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return await attempt(reader.catalog)
        except (StaleCatalog, BadParameter):
            if not await reader.refresh():
                raise
    return await attempt(reader.catalog)


@dataclass(frozen=True)
class _Answer:
    """The answer to a query, as a page or as a stream.

    ``applied`` are the preferences that it honours.
    """

    request: web.Request
    query: Query
    after: str | None
    form: Representation
    asked: Preferences
    applied: str | None

    async def page(
        self, connection: AsyncConnection, catalog: Catalog
    ) -> web.Response | None:
        """All rows that the query asks for; None if they are too many for a page."""
        query = self.query
        limit = MAX_PAGE_ROWS if query.limit is None else query.limit
        limit = min(limit, 1 if query.is_single else MAX_PAGE_ROWS)
        page = await read_page(
            connection, catalog, query, self.after, limit=limit, with_rows=True
        )
        found = page.found if query.limit is None else min(page.found, query.limit)
        if query.is_single and found != 1:
            raise NotSingle(await self._count(connection, catalog))
        if found > limit:
            return None
        response = web.Response()
        self._describe(response, page, found)
        if query.is_single:
            response.body = (page.rows or "").encode()
        else:
            response.body = as_array(page.rows)
        return response

    async def _count(self, connection: AsyncConnection, catalog: Catalog) -> int:
        """The number of rows between limit and offset."""
        query = replace(self.query, count="exact")
        page = await read_page(
            connection, catalog, query, self.after, limit=0, with_rows=False
        )
        return _between(query, page.total or 0)

    def open(self, catalog: Catalog) -> OpenRows:
        """What opens a stream."""
        query = self.query
        limit = MAX_PAGE_ROWS if query.limit is None else query.limit

        async def open_rows(
            connection: AsyncConnection, response: web.StreamResponse
        ) -> AsyncGenerator[bytes]:
            if query.timezone:
                await connection.execute(local({"timezone": query.timezone}))
            page = await read_page(
                connection, catalog, query, self.after, limit=limit, with_rows=False
            )
            found: int | None = min(page.found, limit)
            if query.limit is None and page.found > limit:
                found = None
                if query.count == "exact":
                    found = _between(query, page.total or 0)
            self._describe(response, page, found)
            selected = rows(query, self.after)
            return stream(connection, selected, query.format, bom=query.has_bom)

        return open_rows

    def _describe(
        self, response: web.StreamResponse, page: Page, found: int | None
    ) -> None:
        """Set status and headers; ``found`` is the number of rows, if that is known.

        Raises RangeNotSatisfiable, which only a counted answer can be.
        """
        query, total = self.query, page.total
        if self.asked.count and total is not None:
            if query.offset > total:
                raise RangeNotSatisfiable(
                    f"An offset of {query.offset} was requested, but there are only"
                    f" {total} rows.",
                    total,
                )
            if found is not None and found < total:
                response.set_status(206)
        self.form.describe(response, page.published)
        headers = response.headers
        headers["Content-Type"] = CONTENT_TYPES[query.format]
        headers.update(disposition(query.format, "features"))
        if self.applied:
            headers["Preference-Applied"] = self.applied
        shown = content_range(query.offset, found, total)
        if shown:
            headers["Content-Range"] = shown
        if total is not None and query.count == "exact":
            headers["X-Total-Count"] = str(total)
        headers.update(page_links(self.request, **self._following(page)))
        self.form.compress(self.request, response)

    def _following(self, page: Page) -> dict[str, str]:
        """The parameters of the next page, none if this is the last one."""
        if page.cursor is not None:
            return {"after": page.cursor}
        first, limit = self.query.offset, self.query.limit
        if not limit or page.found <= limit or self.query.has_cursor:
            return {}
        return {"offset": str(first + limit), "limit": str(limit)}


def _between(query: Query, total: int) -> int:
    """How many of all rows are between limit and offset."""
    rest = max(total - query.offset, 0)
    return rest if query.limit is None else min(rest, query.limit)
