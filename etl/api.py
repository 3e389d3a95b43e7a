"""Routes and handlers: what HTTP asks, and what it is answered.

Knows requests and answers; what they ask for is done by runs and features.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from aiohttp import web
from psycopg import AsyncConnection

from etl.access import guards, share
from etl.answers import READER, answer_feature, answer_features
from etl.catalog import read_catalog
from etl.database import Database, open_database
from etl.docs import docs, docs_file
from etl.errors import DatabaseAway, DataFault, Interrupted, RunFault
from etl.exports import as_objects, stream
from etl.measures import answer_metrics
from etl.metrics import METRICS, Metrics, counting
from etl.negotiation import CONTENT_TYPES
from etl.openapi import describe, read_table
from etl.problems import (
    STARTED,
    TRIGGER_PATH,
    BadParameter,
    NotThere,
    problem,
    problems,
)
from etl.reading import Reader
from etl.records import Record, Run, read_runs
from etl.rejects import START, Place, last_of_page, rejects_of
from etl.runs import Runner, RunUnderWay
from etl.sending import MOST_STREAMS, STREAMS, Export, send_rows
from etl.settings import Settings

#: What ``result`` says after a success: the challenge's own words, and ours.
INSERTED = "successfully inserted into database"
DRY = "dry run: nothing was published"

#: Where browsers say that they only fetch ahead.
PURPOSES = ("Sec-Purpose", "Purpose")

ENDPOINTS = {
    "trigger_etl": TRIGGER_PATH,
    "features": "/features",
    "feature": "/features/{key}",
    "runs": "/runs",
    "run": "/runs/{id}",
    "rejects": "/runs/{id}/rejects",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "metrics": "/metrics",
    "openapi": "/openapi.json",
    "docs": "/docs",
}

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
RUNNER = web.AppKey("runner", Runner)


def create_app(settings: Settings) -> web.Application:
    """The whole service; its database starts and stops with it."""
    metrics = Metrics()
    app = web.Application(middlewares=[counting(metrics), problems, *guards(settings)])
    share(app, settings.cors_origins)
    app[SETTINGS] = settings
    app[METRICS] = metrics
    app[STREAMS] = asyncio.Semaphore(MOST_STREAMS)
    app.cleanup_ctx.append(_database)
    app.on_shutdown.append(_interrupt)
    # HEAD and GET must differ here: asking about the trigger is not pulling it.
    app.router.add_get(ENDPOINTS["trigger_etl"], trigger_etl, allow_head=False)
    app.router.add_post(ENDPOINTS["trigger_etl"], trigger_etl)
    app.router.add_get("/", index)
    app.router.add_get(ENDPOINTS["features"], features)
    app.router.add_get("/features/{key:[^/]+}", feature)  # also with braces in it
    app.router.add_get(ENDPOINTS["runs"], runs)
    app.router.add_get(ENDPOINTS["run"], run)
    app.router.add_get(ENDPOINTS["rejects"], rejects)
    app.router.add_get(ENDPOINTS["healthz"], healthz)
    app.router.add_get(ENDPOINTS["readyz"], readyz)
    app.router.add_get(ENDPOINTS["metrics"], tell_metrics)
    app.router.add_get(ENDPOINTS["openapi"], openapi)
    app.router.add_get(ENDPOINTS["docs"], docs)
    app.router.add_get("/docs/{file}", docs_file)
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    async with open_database(app[SETTINGS]) as database:
        app[DATABASE] = database
        app[RUNNER] = Runner(database, app[SETTINGS], app[METRICS].count_run)
        async with database.readers.connection() as connection:
            app[READER] = Reader(database, await read_catalog(connection))
        yield
        await app[RUNNER].stop()


async def _interrupt(app: web.Application) -> None:
    """Before requests are waited for: those that wait for a run get their answer."""
    await app[RUNNER].stop()


async def index(request: web.Request) -> web.Response:
    """What there is to ask."""
    return web.json_response(ENDPOINTS)


async def trigger_etl(request: web.Request) -> web.Response:
    """Start a run; wait for its end unless ``wait=false``."""
    _refuse_parameters(request, "wait", "dry_run")
    wait = _flag(request, "wait", default=True)
    dry = _flag(request, "dry_run", default=False)
    if any("prefetch" in request.headers.get(name, "") for name in PURPOSES):
        return _trigger_problem(403, "a prefetch starts no run", None)
    try:
        started = await request.app[RUNNER].start(dry=dry)
    except RunUnderWay as busy:
        return _trigger_problem(409, str(busy), busy.record)
    except DatabaseAway as away:
        return _trigger_problem(503, str(away), None)
    if wait:
        await started.done.wait()
        return _outcome(started)
    where = f"/runs/{started.id}"
    body = {"message": STARTED, "result": f"see {where}", "run": started.record}
    headers = {"Location": where, "Cache-Control": "no-store"}
    return web.json_response(body, status=202, headers=headers)


def _outcome(run: Run) -> web.Response:
    """The answer to a trigger whose run is over."""
    if run.fault is not None:
        return _trigger_problem(_status(run.fault), str(run.fault), run.record)
    result = DRY if run.dry else INSERTED
    body = {"message": STARTED, "result": result, "run": run.record}
    return web.json_response(body, headers={"Cache-Control": "no-store"})


def _status(fault: RunFault) -> int:
    if isinstance(fault, DataFault):
        return 422
    return 503 if isinstance(fault, DatabaseAway | Interrupted) else 500


def _trigger_problem(status: int, result: str, record: Record | None) -> web.Response:
    return problem(status, result, message=STARTED, result=result, run=record)


async def features(request: web.Request) -> web.StreamResponse:
    """The rows asked for, as a page or streamed."""
    return await answer_features(request, request.app[DATABASE])


async def feature(request: web.Request) -> web.StreamResponse:
    """One row by its key."""
    return await answer_feature(request)


async def runs(request: web.Request) -> web.Response:
    """The history, newest first."""
    _refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        return web.json_response(await read_runs(connection))


async def run(request: web.Request) -> web.Response:
    """One run."""
    _refuse_parameters(request)
    return web.json_response(await _record(request))


async def rejects(request: web.Request) -> web.StreamResponse:
    """The records that a run left out, and why, ordered by file and line."""
    _refuse_parameters(request, "format", "limit", "after")
    form = _choice(request, "format", "json", "csv")
    limit = _positive(request, "limit")
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


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Database and schema are ready."""
    async with request.app[DATABASE].readers.connection() as connection:
        await connection.execute("select from etl.feature_columns limit 1")
    return web.json_response({"status": "ready"})


async def tell_metrics(request: web.Request) -> web.Response:
    """What Prometheus is told."""
    _refuse_parameters(request)
    return await answer_metrics(request, request.app[DATABASE])


async def openapi(request: web.Request) -> web.Response:
    """What there is to ask, and what is answered, for programs."""
    _refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        table = await read_table(connection)
    resources = request.app.router.resources()
    routes = {resource.canonical for resource in resources}
    document = describe(table, routes, request.app[SETTINGS])
    return web.json_response(document, headers={"Cache-Control": "no-cache"})


def _refuse_parameters(request: web.Request, *known: str) -> None:
    """400 for a query parameter that would silently do nothing, or stands twice."""
    for name in request.query:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise BadParameter(f"unknown parameter {name!r}; allowed: {allowed}")
        if len(request.query.getall(name)) > 1:
            raise BadParameter(f"parameter {name!r} stands more than once")


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    value = request.query.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false, not {value!r}")
    return value == "true"


def _choice(request: web.Request, name: str, *values: str) -> str:
    value = request.query.get(name, values[0])
    if value not in values:
        raise BadParameter(f"{name} is one of {', '.join(values)}, not {value!r}")
    return value


def _positive(request: web.Request, name: str) -> int | None:
    value = request.query.get(name)
    if value is None:
        return None
    if re.fullmatch("[1-9][0-9]{0,8}", value):
        return int(value)
    raise BadParameter(f"{name} is a whole number from 1, not {value!r}")


def _place(request: web.Request) -> Place:
    value = request.query.get("after")
    try:
        return Place.parse(value) if value is not None else START
    except ValueError:
        words = f"after is what the Link header of a page gave, not {value!r}"
        raise BadParameter(words) from None
