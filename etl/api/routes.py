"""Routes and handlers: what HTTP asks, and what it is answered.

Knows requests and answers; what they ask for is done by runs and features.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from etl.api.access import guards, share
from etl.api.answers import READER, answer_feature, answer_features
from etl.api.app_keys import DATABASE, EVENTS, READINESS, RUNNER, SETTINGS
from etl.api.charts import CHARTS, chart, charts
from etl.api.docs import docs, docs_file
from etl.api.drawing import Charts
from etl.api.history import cancel, events, rejects, run, runs
from etl.api.measures import answer_metrics
from etl.api.metrics import METRICS, Metrics, counting
from etl.api.openapi import describe, read_table
from etl.api.pages import answer_page, page_file, wants_page
from etl.api.readiness import Readiness
from etl.errors import Cancelled, DatabaseUnavailable, DataFault, Interrupted, RunFault
from etl.http.parameters import flag, read_parameters, refuse_parameters
from etl.http.problems import NOT_STARTED, STARTED, TRIGGER_PATH, problem, problems
from etl.http.sending import MOST_STREAMS, STREAMS
from etl.postgres.database import open_database
from etl.reading.catalog import read_catalog
from etl.reading.reader import Reader
from etl.run.events import Events
from etl.run.records import Run, RunSummary
from etl.run.runs import RunInProgress, Runner
from etl.settings import Settings
from etl.sqlfiles import OVERRIDES

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
    "charts": "/charts",
    "chart": "/charts/{name}",
    "events": "/runs/{id}/events",
    "cancel": "/runs/{id}/cancel",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "metrics": "/metrics",
    "openapi": "/openapi.json",
    "docs": "/docs",
}


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
    app.router.add_get("/static/{file:.+}", page_file)
    app.router.add_get(ENDPOINTS["features"], features)
    app.router.add_get("/features/{key:[^/]+}", feature)  # also with braces in it
    app.router.add_get(ENDPOINTS["runs"], runs)
    app.router.add_get(ENDPOINTS["run"], run)
    app.router.add_get(ENDPOINTS["rejects"], rejects)
    app.router.add_get(ENDPOINTS["charts"], charts)
    app.router.add_get(ENDPOINTS["chart"], chart)
    app.router.add_get(ENDPOINTS["events"], events)
    app.router.add_post(ENDPOINTS["cancel"], cancel)
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
        app[CHARTS] = Charts(database)
        app[EVENTS] = Events(database)
        app[READINESS] = Readiness(database, app[RUNNER])
        async with database.readers.connection() as connection:
            app[READER] = Reader(database, await read_catalog(connection))
        yield
        await app[RUNNER].stop()


async def _interrupt(app: web.Application) -> None:
    """Before requests are waited for: those that wait for a run get their answer."""
    await app[RUNNER].stop()
    await app[EVENTS].stop()


async def index(request: web.Request) -> web.Response:
    """The page for people; for programs, what there is to ask."""
    if wants_page(request):
        return answer_page(request)
    return web.json_response(ENDPOINTS, headers={"Vary": "Accept"})


async def trigger_etl(request: web.Request) -> web.Response:
    """Start a run; wait for its end unless ``wait=false``."""
    given = await read_parameters(request, "wait", "dry_run", *OVERRIDES)
    wait = flag(given, "wait", default=True)
    dry = flag(given, "dry_run", default=False)
    overrides = [name for name in OVERRIDES if flag(given, name, default=False)]
    if any("prefetch" in request.headers.get(name, "") for name in PURPOSES):
        return _not_started(403, "a prefetch starts no run")
    try:
        # A run that is on record goes on, though its caller hangs up this very moment.
        starting = request.app[RUNNER].start(dry=dry, overrides=overrides)
        started = await asyncio.shield(starting)
    except RunInProgress as busy:
        return _not_started(409, str(busy), busy.summary)
    except (DatabaseUnavailable, Interrupted) as none_begun:
        return _not_started(503, str(none_begun))
    if wait:
        await started.done.wait()
        return _outcome(started)
    where = f"/runs/{started.id}"
    body = {"message": STARTED, "result": f"see {where}", "run": started.summary}
    headers = {"Location": where, "Cache-Control": "no-store"}
    return web.json_response(body, status=202, headers=headers)


def _outcome(run: Run) -> web.Response:
    """The answer to a trigger whose run is over."""
    if run.fault is not None:
        words = {"message": STARTED, "result": str(run.fault), "run": run.summary}
        return problem(_status(run.fault), str(run.fault), **words)
    result = DRY if run.dry else INSERTED
    body = {"message": STARTED, "result": result, "run": run.summary}
    return web.json_response(body, headers={"Cache-Control": "no-store"})


def _status(fault: RunFault) -> int:
    if isinstance(fault, DataFault):
        return 422
    if isinstance(fault, Cancelled):
        # Another request was in conflict with this one (RFC 9110, 15.5.10), which may
        # be sent again; 503 would have clients do so by themselves, against the will
        # of whoever has cancelled it.
        return 409
    return 503 if isinstance(fault, DatabaseUnavailable | Interrupted) else 500


def _not_started(
    status: int, result: str, record: RunSummary | None = None
) -> web.Response:
    """The answer to a trigger that began no run; ``record`` is of one in progress."""
    return problem(status, result, message=NOT_STARTED, result=result, run=record)


async def features(request: web.Request) -> web.StreamResponse:
    """The rows asked for, as a page or streamed."""
    return await answer_features(request, request.app[DATABASE])


async def feature(request: web.Request) -> web.StreamResponse:
    """One row by its key."""
    return await answer_feature(request)


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Database and schema are ready, and a run can begin or is in progress."""
    if reason := await request.app[READINESS].reason():
        return problem(503, reason)
    return web.json_response({"status": "ready"})


async def tell_metrics(request: web.Request) -> web.Response:
    """What Prometheus is told."""
    refuse_parameters(request)
    return await answer_metrics(request, request.app[DATABASE])


async def openapi(request: web.Request) -> web.Response:
    """What there is to ask, and what is answered, for programs."""
    refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        table = await read_table(connection)
    resources = request.app.router.resources()
    routes = {resource.canonical for resource in resources}
    document = describe(table, routes, request.app[SETTINGS])
    return web.json_response(document, headers={"Cache-Control": "no-cache"})
