"""What ``/features`` and ``/features/{key}`` are answered: headers, status and body.

Puts together what a query asks for, what the reader has already, and what is read.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from multidict import CIMultiDict
from psycopg import AsyncConnection

from etl.features.catalog import Catalog
from etl.features.exports import as_array, compress, compressed
from etl.features.queries import (
    Query,
    is_storable,
    parse_select,
    read_query,
    select_digest,
)
from etl.features.reading import CHANGES, REFUSALS, Page, Reader, StaleCatalog
from etl.http.caching import Asked, is_conditional, is_known
from etl.http.negotiation import (
    CONTENT_TYPES,
    MEDIA_TYPES,
    choose_coding,
    choose_format,
)
from etl.http.problems import BadParameter, NotAcceptable, NotThere
from etl.http.sending import Export, send_rows
from etl.postgres.database import Database

READER = web.AppKey("reader", Reader)

#: Rows of a page that is made as one text; more are streamed, so that memory is flat.
MOST_ROWS_AT_ONCE = 1000

#: Times that an answer is begun where the table changes its columns meanwhile.
TRIES = 3

FORMATS = tuple(MEDIA_TYPES)

#: A query string in which nothing is escaped, and may stand in a Link header as it is.
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9_.~=&,*()-]*")
_AFTER = re.compile(r"&?\bafter=[^&]*")

T = TypeVar("T")


async def answer_features(
    request: web.Request, database: Database
) -> web.StreamResponse:
    """The rows that the query string asks for."""
    reader = request.app[READER]
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    accepted = choose_format(request.headers.get("Accept", ""), FORMATS)

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        query = read_query(catalog, request.rel_url.raw_query_string, accepted)
        asked = Asked(query.digest, "Accept, Accept-Encoding", coding)
        try:
            if known := await _known(request, reader, catalog, asked):
                return known
            if query.format == "json" and _is_short(query.shape.limit):
                page = await reader.page(catalog, query)
                return await _page(request, query, asked, page)
            return await _stream(request, database, reader, catalog, query, asked)
        except REFUSALS as error:
            raise await reader.refused(query, error) from error

    return await _with_catalog(reader, attempt)


async def answer_feature(request: web.Request) -> web.StreamResponse:
    """The row whose key the path names."""
    reader, key = request.app[READER], request.match_info["key"]
    if choose_format(request.headers.get("Accept", ""), ("json",)) is None:
        raise NotAcceptable("a row is given as application/json")
    parameters = list(request.query.items())

    async def attempt(catalog: Catalog) -> web.StreamResponse:
        columns = parse_select(catalog, parameters)
        if len(catalog.key) != 1:
            raise NotThere("features has no key of one column")
        missing = NotThere(
            f"features has no row whose {catalog.key[0].name} is {key!r}"
        )
        if not is_storable(key):
            raise missing
        asked = Asked(select_digest(columns, key), "Accept")
        tags = request.headers.get("If-None-Match", "").strip()
        if tags != "*" and (known := await _known(request, reader, catalog, asked)):
            return known
        state, row = await reader.row(catalog, columns, key)
        if row is None:
            raise missing
        headers = asked.headers(state)
        if tags == "*":
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = CONTENT_TYPES["json"]
        return web.Response(body=row.encode(), headers=headers)

    return await _with_catalog(reader, attempt)


async def _with_catalog(
    reader: Reader, attempt: Callable[[Catalog], Awaitable[T]]
) -> T:
    """Attempt it with the catalog in use, and again where the table has changed."""
    for _ in range(TRIES - 1):
        try:
            return await attempt(reader.catalog)
        except (StaleCatalog, BadParameter, *CHANGES):
            if not await reader.refresh():
                raise
    return await attempt(reader.catalog)


async def _known(
    request: web.Request, reader: Reader, catalog: Catalog, asked: Asked
) -> web.Response | None:
    """The answer for a reader who has the present state already, else None."""
    if not is_conditional(request.headers):
        return None
    state = await reader.state(catalog)
    if not is_known(request.headers, state, asked):
        return None
    return web.Response(status=304, headers=asked.headers(state))


def _is_short(limit: int | None) -> bool:
    return limit is not None and limit <= MOST_ROWS_AT_ONCE


async def _page(
    request: web.Request, query: Query, asked: Asked, page: Page
) -> web.Response:
    body = as_array(page.rows)
    if asked.coding:
        body = await compress(body, asked.coding)
    return web.Response(body=body, headers=_headers(request, query, asked, page))


async def _stream(
    request: web.Request,
    database: Database,
    reader: Reader,
    catalog: Catalog,
    query: Query,
    asked: Asked,
) -> web.StreamResponse:
    async def open_export(connection: AsyncConnection) -> Export:
        page, chunks = await reader.open(connection, catalog, query)
        headers = _headers(request, query, asked, page)
        return Export(
            headers, compressed(chunks, asked.coding) if asked.coding else chunks
        )

    return await send_rows(request, database, open_export)


def _headers(
    request: web.Request, query: Query, asked: Asked, page: Page
) -> CIMultiDict[str]:
    headers = asked.headers(page.state)
    headers["Content-Type"] = CONTENT_TYPES[query.format]
    if asked.coding:
        headers["Content-Encoding"] = asked.coding
    if page.following is not None:
        headers["Link"] = f'<{_following(request, query, page.following)}>; rel="next"'
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    return headers


def _following(request: web.Request, query: Query, place: str) -> str:
    """Where the next page is: this query, with another place."""
    text = request.rel_url.raw_query_string
    if _PLAIN_QUERY.fullmatch(text):  # the long way below costs a tenth of a page
        before = _AFTER.sub("", text) if query.shape.place else text
        return f"{request.rel_url.raw_path}?{before}&after={place}"
    return str(request.rel_url.update_query(after=place))
