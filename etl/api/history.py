"""Handlers of ``/runs`` and what is below it: what was done, and what was left out."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from aiohttp import web
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE, EVENTS, RUNNER
from etl.api.listening import send_events
from etl.errors import BadParameter, Cancelled
from etl.http.parameters import choice, positive, refuse_parameters, word
from etl.http.problems import NotThere, problem
from etl.http.sending import send_rows
from etl.reading.exports import CONTENT_TYPES, as_objects, stream
from etl.run.events import LAST_EVENT_ID
from etl.run.records import Run, RunSummary, read_runs
from etl.run.rejects import START, Place, last_of_page, rejects_of

#: Runs of a page, and the number of a run: what a bigint holds.
MOST_RUNS, MOST_NUMBER = 1000, 2**63 - 1


async def runs(request: web.Request) -> web.Response:
    """The history, newest first, or a page of it."""
    refuse_parameters(request, "limit", "after")
    limit = positive(request, "limit", most=MOST_RUNS)
    after = positive(request, "after", most=MOST_NUMBER)
    one_more = limit + 1 if limit else None
    async with request.app[DATABASE].readers.connection() as connection:
        records = await read_runs(connection, older_than=after, limit=one_more)
    page = records[:limit]
    headers = {}
    if len(page) < len(records):
        following = request.rel_url.update_query(after=str(page[-1]["id"]))
        headers["Link"] = f'<{following}>; rel="next"'
    return web.json_response(page, headers=headers)


async def run(request: web.Request) -> web.Response:
    """One run."""
    refuse_parameters(request)
    return web.json_response(await _record(request))


async def rejects(request: web.Request) -> web.StreamResponse:
    """The records that a run left out, and why: causes first, by file and line."""
    refuse_parameters(request, "format", "limit", "after", "reason")
    form = choice(request, "format", "json", "csv")
    limit = positive(request, "limit")
    after, reason = _place(request), word(request, "reason")
    number = (await _record(request))["id"]
    query = rejects_of(number, after, limit, reason)

    async def open_rejects(
        connection: AsyncConnection, response: web.StreamResponse
    ) -> AsyncGenerator[bytes]:
        response.headers["Content-Type"] = CONTENT_TYPES[form]
        last = limit and await last_of_page(connection, number, after, limit, reason)
        if last:
            following = request.rel_url.update_query(after=str(last))
            response.headers["Link"] = f'<{following}>; rel="next"'
        rows = query if form == "csv" else as_objects(query)
        return stream(connection, rows, form)

    return await send_rows(request, request.app[DATABASE], open_rejects)


async def events(request: web.Request) -> web.StreamResponse:
    """How far a run is, while it goes on, and how it ended."""
    refuse_parameters(request)
    if request.headers.get("Last-Event-ID") == LAST_EVENT_ID:
        # An EventSource comes back after every end, and stays away after this.
        return web.Response(status=204, headers={"Cache-Control": "no-store"})
    record, run = await _run(request)
    return await send_events(request, request.app[EVENTS], record, run)


async def cancel(request: web.Request) -> web.Response:
    """Tell a run of this server to end; ``features`` stays as it is."""
    refuse_parameters(request)
    record, run = await _run(request)
    if run is not None:
        if run.end_early(Cancelled("cancelled")):
            headers = {"Cache-Control": "no-store"}
            return web.json_response(record, status=202, headers=headers)
        await run.done.wait()
        record = run.summary
    is_over = record["state"] != "running"
    words = f"is over: {record['state']}" if is_over else "is another server's"
    return problem(409, f"run {record['id']} {words}", run=record)


async def _run(request: web.Request) -> tuple[RunSummary, Run | None]:
    """The record of the run that the path names, or 404; and the run, while it is ours
    and goes on.
    """
    runner, number = request.app[RUNNER], _number(request)
    if run := runner.running(number):
        return run.summary, run
    record = await _record(request)
    if record["state"] == "running":
        await runner.wait_until_started()
    return record, runner.running(number)


async def _record(request: web.Request) -> RunSummary:
    """The record of the run that the path names, or 404."""
    number = _number(request)
    async with request.app[DATABASE].readers.connection() as connection:
        for record in await read_runs(connection, number):
            return record
    raise _no_run(request)


def _number(request: web.Request) -> int:
    """The number of a run that the path names; 404 where it can be none."""
    number = request.match_info["id"]
    if re.fullmatch("[0-9]{1,19}", number) and int(number) <= MOST_NUMBER:
        return int(number)
    raise _no_run(request)


def _no_run(request: web.Request) -> NotThere:
    return NotThere(f"there is no run {request.match_info['id']!r}")


def _place(request: web.Request) -> Place:
    value = request.query.get("after")
    try:
        return Place.parse(value) if value is not None else START
    except ValueError:
        words = f"after is what the Link header of a page gave, not {value!r}"
        raise BadParameter(words) from None
