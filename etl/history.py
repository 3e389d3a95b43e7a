"""Handlers of ``/runs`` and what is below it: what was done, and what was left out."""

from __future__ import annotations

from aiohttp import web
from psycopg import AsyncConnection

from etl.exports import as_objects, stream
from etl.keys import DATABASE
from etl.negotiation import CONTENT_TYPES
from etl.parameters import choice, positive, refuse_parameters
from etl.problems import BadParameter, NotThere
from etl.records import Record, read_runs
from etl.rejects import START, Place, last_of_page, rejects_of
from etl.sending import Export, send_rows


async def runs(request: web.Request) -> web.Response:
    """The history, newest first."""
    refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        return web.json_response(await read_runs(connection))


async def run(request: web.Request) -> web.Response:
    """One run."""
    refuse_parameters(request)
    return web.json_response(await _record(request))


async def rejects(request: web.Request) -> web.StreamResponse:
    """The records that a run left out, and why, ordered by file and line."""
    refuse_parameters(request, "format", "limit", "after")
    form = choice(request, "format", "json", "csv")
    limit = positive(request, "limit")
    after = _place(request)
    number = (await _record(request))["id"]
    query = rejects_of(number, after, limit)

    async def open_rejects(connection: AsyncConnection) -> Export:
        headers = {"Content-Type": CONTENT_TYPES[form]}
        last = limit and await last_of_page(connection, number, after, limit)
        if last:
            following = request.rel_url.update_query(after=str(last))
            headers["Link"] = f'<{following}>; rel="next"'
        rows = query if form == "csv" else as_objects(query)
        return Export(headers, stream(connection, rows, form))

    return await send_rows(request, request.app[DATABASE], open_rejects)


async def _record(request: web.Request) -> Record:
    """The record of the run that the path names, or 404."""
    number = request.match_info["id"]
    if number.isascii() and number.isdecimal() and len(number) < 19:
        async with request.app[DATABASE].readers.connection() as connection:
            for record in await read_runs(connection, int(number)):
                return record
    raise NotThere(f"there is no run {number!r}")


def _place(request: web.Request) -> Place:
    value = request.query.get("after")
    try:
        return Place.parse(value) if value is not None else START
    except ValueError:
        words = f"after is what the Link header of a page gave, not {value!r}"
        raise BadParameter(words) from None
