"""``/runs`` and below: the history of runs, their rejects, events, and cancelling."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import ClientConnectionResetError, web
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE, EVENTS, RUNNER, records_connection
from etl.errors import BadParameter, Cancelled, RequestError, truncated
from etl.http.addresses import page_links
from etl.http.bodies import send
from etl.http.headers import attachment
from etl.http.parameters import (
    choice,
    csv_name,
    flag,
    identifier,
    positive,
    refuse_parameters,
)
from etl.http.problems import problem
from etl.http.quotas import Quota
from etl.http.representations import encode_as_accepted
from etl.http.sending import send_rows
from etl.reading.exports import CONTENT_TYPES, as_objects, stream, stream_file
from etl.run.events import LAST_EVENT_ID
from etl.run.records import Run, RunSummary, read_runs
from etl.run.rejects import START, RejectCursor, Rejects, records_of_file

#: Runs of a page, and the number of a run: what a bigint holds.
MAX_RUNS, MAX_NUMBER = 1000, 2**63 - 1

#: Streams of events at once. Each has an open file; a process often may have 1024.
MAX_LISTENERS = 800
LISTENERS = web.AppKey("listeners", Quota)

#: Proxies are to pass events on at once, and keep none.
EVENT_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


async def runs(request: web.Request) -> web.Response:
    """The history, newest first, or a page of it."""
    refuse_parameters(request, "limit", "after")
    limit = positive(request, "limit", most=MAX_RUNS)
    after = positive(request, "after", most=MAX_NUMBER)
    one_more = limit + 1 if limit else None
    async with records_connection(request) as connection:
        found = await read_runs(connection, older_than=after, limit=one_more)
    page = found[:limit]
    following = {"after": str(page[-1]["id"])} if len(page) < len(found) else {}
    return web.json_response(page, headers=page_links(request, **following))


async def run(request: web.Request) -> web.Response:
    """One run."""
    refuse_parameters(request)
    return web.json_response(await _summary(request))


async def rejects(request: web.Request) -> web.StreamResponse:
    """The rejected records of a run with their reasons, by file and line."""
    refuse_parameters(request, "format", "bom", "limit", "after", "file", "reason")
    form = choice(request, "format", "json", "csv")
    bom = flag(request.query, "bom", default=False)
    if bom and form != "csv":
        raise BadParameter("bom is for format=csv")
    limit = positive(request, "limit")
    file, reason = csv_name(request, "file"), identifier(request, "reason")
    given = request.query.get("after")
    try:
        after = START if given is None else RejectCursor.parse(given)
    except ValueError:
        value = truncated(given or "")
        message = f"after is what the Link header of a page gave, not {value}"
        raise BadParameter(message) from None
    number = (await _summary(request))["id"]
    chosen = Rejects(number, file, reason)

    async def open_rejects(
        connection: AsyncConnection, response: web.StreamResponse
    ) -> AsyncGenerator[bytes]:
        response.headers["Content-Type"] = CONTENT_TYPES[form]
        if form == "csv":
            response.headers.update(attachment(f"rejects-{number}.csv"))
        encode_as_accepted(request, response)
        last = limit and await chosen.last_of_page(connection, after, limit)
        following = {"after": str(last)} if last else {}
        response.headers.update(page_links(request, **following))
        rows = chosen.rows(after, limit)
        objects = rows if form == "csv" else as_objects(rows)
        return stream(connection, objects, form, bom=bom)

    return await send_rows(request, request.app[DATABASE], open_rejects)


async def rejects_of_file(request: web.Request) -> web.StreamResponse:
    """The records of a file that a run has rejected, as a CSV file to be corrected."""
    refuse_parameters(request)
    name, summary = request.match_info["file"], await _summary(request)
    headers = {file["file"]: file.get("header") for file in summary["files"]}
    header = headers.get(name)
    if not header:
        raise RequestError(
            f"run {summary['id']} knows no header of a file {truncated(name)}", 404
        )
    records = records_of_file(summary["id"], name)

    async def open_file(
        connection: AsyncConnection, response: web.StreamResponse
    ) -> AsyncGenerator[bytes]:
        response.headers["Content-Type"] = CONTENT_TYPES["csv"]
        saved = f"{name.removesuffix('.csv')}.rejects.csv"
        response.headers.update(attachment(saved))
        encode_as_accepted(request, response)
        return stream_file(connection, header, records)

    return await send_rows(request, request.app[DATABASE], open_file)


async def events(request: web.Request) -> web.StreamResponse:
    """The events of a run until its end; to HEAD without any."""
    refuse_parameters(request)
    if request.headers.get("Last-Event-ID") == LAST_EVENT_ID:
        # An EventSource reconnects after every end, but not after this.
        return web.Response(status=204, headers={"Cache-Control": "no-store"})
    response = web.StreamResponse(headers=EVENT_HEADERS)
    response.force_close()
    with request.app[LISTENERS].room(request):
        summary, run = await _run(request)
        if request.transport is not None:  # a write waits until the client reads
            request.transport.set_write_buffer_limits(high=0)
        async with aclosing(request.app[EVENTS].of_run(summary, run)) as stream:
            # Most clients end by disconnecting, or by no longer reading: no error.
            with suppress(ClientConnectionResetError, TimeoutError):
                await send(request, response, stream)
    return response


async def cancel(request: web.Request) -> web.Response:
    """Cancel a run of this server; ``features`` stays as it is."""
    refuse_parameters(request)
    summary, run = await _run(request)
    if run is not None:
        if run.end_early(Cancelled("cancelled")):
            headers = {"Cache-Control": "no-store"}
            return web.json_response(summary, status=202, headers=headers)
        await run.done.wait()
        summary = run.summary
    state = summary["state"]
    reason = "is another server's" if state == "running" else f"has ended: {state}"
    return problem(409, f"run {summary['id']} {reason}", run=summary)


async def _run(request: web.Request) -> tuple[RunSummary, Run | None]:
    """The summary of the run that the path names, or 404, and the run itself while
    this process leads it.
    """
    runner, number = request.app[RUNNER], _number(request)
    if run := runner.running(number):
        return run.summary, run
    summary = await _summary(request)
    if summary["state"] == "running":  # in the database a moment before it is here
        await runner.wait_until_started()
    return summary, runner.running(number)


async def _summary(request: web.Request) -> RunSummary:
    """The summary of the run that the path names, or 404."""
    number = _number(request)
    async with records_connection(request) as connection:
        if summaries := await read_runs(connection, number):
            return summaries[0]
    raise RequestError(f"there is no run {request.match_info['id']!r}", 404)


def _number(request: web.Request) -> int:
    """The id of the run that the path names; 404 where no run can have it."""
    number = request.match_info["id"]
    if re.fullmatch("[0-9]{1,19}", number) and int(number) <= MAX_NUMBER:
        return int(number)
    raise RequestError(f"there is no run {number!r}", 404)
