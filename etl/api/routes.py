"""The application: its routes, what starts and stops with it, and the trigger.

Runs and reading do the work; this knows requests and answers alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from etl.api.access import FILE_ROUTE, require_access
from etl.api.answers import READER, TURNS, feature, features
from etl.api.app_keys import DATABASE, EVENTS, READINESS, RUNNER, SETTINGS, WATCHER
from etl.api.charts import CHARTS, Charts, chart, charts
from etl.api.expected import open_files
from etl.api.files import delete_file, file, files, put_file
from etl.api.history import (
    LISTENERS,
    MAX_LISTENERS,
    cancel,
    events,
    rejects,
    rejects_of_file,
    run,
    runs,
)
from etl.api.metrics import METRICS, Metrics, count_requests, metrics
from etl.api.openapi import openapi
from etl.api.pages import PAGE_FILES, PageFiles, docs, send_page, static
from etl.api.readiness import Readiness
from etl.api.sites import allow_origins
from etl.errors import DatabaseUnavailable, Interrupted
from etl.http.addresses import TRUSTED
from etl.http.bodies import expect_nothing, finish
from etl.http.headers import add_common_headers
from etl.http.negotiation import choose_format
from etl.http.parameters import flag, read_parameters
from etl.http.problems import STARTED, TRIGGER_PATH, problem, problem_of, problems
from etl.http.quotas import Quota
from etl.http.streams import STREAMS, Streams
from etl.postgres.database import open_database
from etl.postgres.shares import Shares
from etl.reading.catalog import read_catalog
from etl.reading.reader import Reader
from etl.run.events import Events
from etl.run.records import Run
from etl.run.runs import RunInProgress, Runner
from etl.run.watch import Watcher, source_paths
from etl.settings import Settings

#: What ``result`` says after a success.
INSERTED = "successfully inserted into database"
DRY = "dry run: nothing was published"

#: The headers in which browsers say that they only prefetch.
PURPOSES = ("Sec-Purpose", "Purpose")


def create_app(settings: Settings) -> web.Application:
    """The whole service; its database starts and stops with it."""
    counts = Metrics()
    app = web.Application(middlewares=[count_requests(counts), finish, problems])
    app.on_response_prepare.append(add_common_headers)
    if settings.cors_origins:  # before tokens: a preflight has none
        allow_origins(app, settings.cors_origins)
    app.middlewares.append(require_access(settings))
    app[SETTINGS] = settings
    app[TRUSTED] = settings.trusted_proxies
    app[METRICS] = counts
    app[STREAMS] = Streams()
    app[TURNS] = Shares(1)
    app[LISTENERS] = Quota(MAX_LISTENERS, "streams of events")
    app[PAGE_FILES] = PageFiles()
    app.cleanup_ctx.extend([_database, open_files])
    if settings.watch:
        app.cleanup_ctx.append(_watch)
    app.on_shutdown.append(_interrupt)
    # A HEAD must not start a run.
    app.router.add_get(TRIGGER_PATH, trigger_etl, name="trigger_etl", allow_head=False)
    app.router.add_post(TRIGGER_PATH, trigger_etl)
    app.router.add_post("/runs/{id}/cancel", cancel, name="cancel")
    app.router.add_put(FILE_ROUTE, put_file, expect_handler=expect_nothing)
    app.router.add_delete(FILE_ROUTE, delete_file)
    app.router.add_get("/", index)
    app.router.add_get("/static/{file:.+}", static)
    for path, handler in GET_ROUTES.items():
        app.router.add_get(path, handler, name=handler.__name__)
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    async with open_database(app[SETTINGS]) as database:
        app[DATABASE] = database
        app[RUNNER] = Runner(database, app[SETTINGS], app[METRICS].count_run)
        app[CHARTS] = Charts(database)
        app[EVENTS] = Events(database)
        app[READINESS] = Readiness(database, app[RUNNER])
        async with database.records.connection() as connection:
            app[READER] = Reader(database, await read_catalog(connection))
        yield
        await app[RUNNER].stop()


async def _watch(app: web.Application) -> AsyncIterator[None]:
    settings, counter = app[SETTINGS], app[METRICS].watch_runs
    async with app[DATABASE].records.connection() as connection:
        paths = await source_paths(connection, settings.data_dir)
    watcher = Watcher(app[RUNNER], paths, settings.watch, counter.inc)
    app[WATCHER] = watcher
    task = asyncio.create_task(watcher.watch())
    yield
    task.cancel()
    await asyncio.wait([task])


async def _interrupt(app: web.Application) -> None:
    """Before aiohttp waits for requests: those that wait for a run are answered."""
    await app[RUNNER].stop()
    app[EVENTS].stop()


async def index(request: web.Request) -> web.StreamResponse:
    """The page for browsers; for programs, the endpoints by name.

    PostgREST's clients ask it for the description of the service.
    """
    accept = request.headers.get("Accept", "")
    if choose_format(accept, ("json", "html")) == "html":
        return await send_page(request)
    if "application/openapi+json" in accept:
        return await openapi(request)
    named = request.app.router.named_resources().items()
    paths = {name: resource.canonical for name, resource in named}
    return web.json_response(paths, headers={"Vary": "Accept"})


async def trigger_etl(request: web.Request) -> web.Response:
    """Start a run; wait until it has finished unless ``wait=false``."""
    given = await read_parameters(request, "wait", "dry_run", "full", "allow_empty")
    wait = flag(given, "wait", default=True)
    dry = flag(given, "dry_run", default=False)
    full = flag(given, "full", default=False)
    allow_empty = flag(given, "allow_empty", default=False)
    if any("prefetch" in request.headers.get(name, "") for name in PURPOSES):
        return problem_of(request, 403, "a prefetch starts no run")
    try:
        # A run that has started continues when its client disconnects.
        starting = request.app[RUNNER].start(
            dry=dry, full=full, allow_empty=allow_empty
        )
        started = await asyncio.shield(starting)
    except RunInProgress as busy:
        return problem_of(request, 409, str(busy), run=busy.summary)
    except (DatabaseUnavailable, Interrupted) as none_begun:
        return problem_of(request, none_begun.status, str(none_begun))
    if wait:
        await started.done.wait()
        return _outcome(started)
    where = f"/runs/{started.id}"
    body = {"message": STARTED, "result": f"see {where}", "run": started.summary}
    headers = {"Location": where, "Cache-Control": "no-store"}
    return web.json_response(body, status=202, headers=headers)


def _outcome(run: Run) -> web.Response:
    """The answer to a trigger whose run has finished."""
    result = str(run.fault or (DRY if run.dry else INSERTED))
    body = {"message": STARTED, "result": result, "run": run.summary}
    if run.fault is None:
        return web.json_response(body, headers={"Cache-Control": "no-store"})
    return problem(run.fault.status, result, **body)


async def healthz(request: web.Request) -> web.Response:
    """The process is alive; whether it watches the files, and what that waits for."""
    watcher = request.app.get(WATCHER)
    watch = watcher.summary if watcher else None
    return web.json_response({"status": "ok", "watch": watch})


async def readyz(request: web.Request) -> web.Response:
    """Database and schema are ready, and a run can begin or is in progress."""
    if reason := await request.app[READINESS].reason():
        return problem(503, reason)
    return web.json_response({"status": "ready"})


#: Further routes; each has the name of its handler.
GET_ROUTES = {
    "/features": features,
    "/features/{key:[^/]+}": feature,  # keys may have braces
    "/runs": runs,
    "/runs/{id}": run,
    "/runs/{id}/rejects": rejects,
    "/runs/{id}/rejects/{file}": rejects_of_file,
    "/runs/{id}/events": events,
    "/files": files,
    FILE_ROUTE: file,
    "/charts": charts,
    "/charts/{name}": chart,
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
    "/openapi.json": openapi,
    "/docs": docs,
}
