"""The answers of ``/features`` and ``/features/{key}``: headers, status and body.

A client that has the present representation already gets 304 (RFC 9110, section 13),
without a row being read. The entity tag is made of the published version, a digest of
the files of data and SQL that went into ``features``, and of the request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import ETag, web
from aiohttp.web import ContentCoding
from psycopg import AsyncConnection

from etl.errors import BadParameter, NotAcceptable
from etl.http.negotiation import choose_coding, choose_format
from etl.http.problems import NotThere
from etl.http.sending import send_rows
from etl.postgres.database import Database
from etl.postgres.sqlerrors import one_line
from etl.reading.catalog import Catalog
from etl.reading.exports import CONTENT_TYPES, MEDIA_TYPES, as_array, stream
from etl.reading.query import Query, digest, is_text, read_query, read_select
from etl.reading.reader import (
    CHANGES,
    REFUSALS,
    Page,
    PublishedVersion,
    Reader,
    StaleCatalog,
    read_page,
)
from etl.reading.statements import rows

READER = web.AppKey("reader", Reader)

#: Rows of a page that is made as one text; more are streamed, so that memory is flat.
MAX_PAGE_ROWS = 1000

#: Attempts at an answer, if the table changes its columns meanwhile.
MAX_ATTEMPTS = 3

FORMATS = tuple(MEDIA_TYPES)


@dataclass(frozen=True)
class Representation:
    """One form of an answer; ``digest`` identifies the request."""

    digest: str
    vary: str
    coding: ContentCoding | None = None

    def describe(
        self, response: web.StreamResponse, published: PublishedVersion
    ) -> None:
        """Set the headers of every answer, also of a 304."""
        response.etag = self._etag(published)
        # A client may store an answer, and must ask each time whether it is current.
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = self.vary
        if published.run_id is not None:
            response.headers["X-Run-Id"] = str(published.run_id)
            response.last_modified = published.modified

    def compress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Apply the coding to the body."""
        if self.coding is None:
            return
        if request.method == "HEAD" and not isinstance(response, web.Response):
            # aiohttp would send the end of a compressed stream as the body.
            response.headers["Content-Encoding"] = self.coding.value
        else:
            response.enable_compression(self.coding)

    def not_modified(
        self, request: web.Request, published: PublishedVersion
    ) -> web.Response | None:
        """A 304 if the client has this representation, else None."""
        current = (self._etag(published).value, "*")
        if not any(tag.value in current for tag in request.if_none_match or ()):
            return None
        response = web.Response(status=304)
        self.describe(response, published)
        return response

    def _etag(self, published: PublishedVersion) -> ETag:
        """A strong entity tag; each coding has its own."""
        coding = f"-{self.coding.value}" if self.coding else ""
        return ETag(f"{published.version}-{self.digest}{coding}")


async def answer_features(
    request: web.Request, database: Database
) -> web.StreamResponse:
    """The rows that the query string asks for."""
    reader = request.app[READER]
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    accepted = choose_format(request.headers.get("Accept", ""), FORMATS)
    cursors = request.query.getall("after", [])
    if len(cursors) > 1:
        raise BadParameter("parameter 'after' is given more than once")
    after = cursors[0] if cursors else None
    parameters = tuple(each for each in request.query.items() if each[0] != "after")

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        query = read_query(catalog, parameters, accepted)
        identity = digest(query.digest, after)
        form = Representation(identity, "Accept, Accept-Encoding", coding)

        async def open_rows(
            connection: AsyncConnection, response: web.StreamResponse
        ) -> AsyncGenerator[bytes]:
            page = await read_page(connection, catalog, query, after, with_rows=False)
            _describe(request, response, form, query, page)
            return stream(connection, rows(query, after), query.format)

        try:
            if request.if_none_match:
                published = await reader.published(catalog)
                if answer := form.not_modified(request, published):
                    return answer
            if query.format == "json" and query.limit in range(MAX_PAGE_ROWS + 1):
                async with database.readers.connection() as connection:
                    page = await read_page(
                        connection, catalog, query, after, with_rows=True
                    )
                response = web.Response(body=as_array(page.rows))
                _describe(request, response, form, query, page)
                return response
            return await send_rows(request, database, open_rows)
        except REFUSALS as error:
            raise BadParameter(one_line(error)) from error

    return await _with_catalog(reader, attempt)


async def answer_feature(request: web.Request) -> web.StreamResponse:
    """The row whose key the path names."""
    reader, key = request.app[READER], request.match_info["key"]
    if choose_format(request.headers.get("Accept", ""), ("json",)) is None:
        raise NotAcceptable("a row is given as application/json")
    parameters = list(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        columns = read_select(catalog, parameters)
        if len(catalog.key) != 1:
            raise NotThere("features has no key of one column")
        missing = NotThere(
            f"features has no row whose {catalog.key[0].name} is {key!r}"
        )
        if not is_text(key):
            raise missing
        form = Representation(digest(key, parameters), "Accept")
        if request.if_none_match and ETag("*") not in request.if_none_match:
            published = await reader.published(catalog)
            if answer := form.not_modified(request, published):
                return answer
        published, row = await reader.row(catalog, columns, key)
        if row is None:
            raise missing
        answer = form.not_modified(request, published) or web.Response(
            body=row.encode(), headers={"Content-Type": CONTENT_TYPES["json"]}
        )
        form.describe(answer, published)
        return answer

    return await _with_catalog(reader, attempt)


async def _with_catalog(
    reader: Reader, attempt: Callable[[Catalog], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Attempt it with the catalog in use, and again if the table has changed."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return await attempt(reader.catalog)
        except (StaleCatalog, BadParameter, *CHANGES):
            if not await reader.refresh():
                raise
    return await attempt(reader.catalog)


def _describe(
    request: web.Request,
    response: web.StreamResponse,
    form: Representation,
    query: Query,
    page: Page,
) -> None:
    """Set the headers of an answer with rows."""
    form.describe(response, page.published)
    response.headers["Content-Type"] = CONTENT_TYPES[query.format]
    if page.cursor is not None:
        following = request.rel_url.update_query(after=page.cursor)
        response.headers["Link"] = f'<{following}>; rel="next"'
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    form.compress(request, response)
