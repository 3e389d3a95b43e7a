"""Routes and handlers: what HTTP asks, and what it is answered.

Knows requests and answers; what they ask for is done by runs and features.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from etl.database import READERS_MOST, Database, open_database
from etl.errors import DatabaseAway, DataFault, Interrupted, RunFault
from etl.features import Key, read_key, read_row, stream_rows
from etl.problems import STARTED, TRIGGER_PATH, BadParameter, problem, problems
from etl.runs import Record, Run, Runner, RunUnderWay, read_runs
from etl.settings import Settings

#: What ``result`` says after a success: the challenge's own words, and ours.
INSERTED = "successfully inserted into database"
DRY = "dry run: nothing was published"

#: Seconds that a client may take for one chunk before its connection is closed.
STALLED_SECONDS = 60.0

#: Readers of the whole table at once: a slow one keeps its connection for long, and
#: the others must find one.
MOST_STREAMS = READERS_MOST - 4

#: Where browsers say that they only fetch ahead.
PURPOSES = ("Sec-Purpose", "Purpose")

ENDPOINTS = {
    "trigger_etl": TRIGGER_PATH,
    "features": "/features",
    "feature": "/features/{key}",
    "runs": "/runs",
    "run": "/runs/{id}",
    "healthz": "/healthz",
    "readyz": "/readyz",
}

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
RUNNER = web.AppKey("runner", Runner)
STREAMS = web.AppKey("streams", asyncio.Semaphore)
FEATURES_KEY: web.AppKey[Key | None] = web.AppKey("features_key")


def create_app(settings: Settings) -> web.Application:
    """The whole service; its database starts and stops with it."""
    app = web.Application(middlewares=[problems])
    app[SETTINGS] = settings
    app[STREAMS] = asyncio.Semaphore(MOST_STREAMS)
    app.cleanup_ctx.append(_database)
    app.on_shutdown.append(_interrupt)
    # HEAD and GET must differ here: asking about the trigger is not pulling it.
    app.router.add_get(ENDPOINTS["trigger_etl"], trigger_etl, allow_head=False)
    app.router.add_post(ENDPOINTS["trigger_etl"], trigger_etl)
    app.router.add_get("/", index)
    app.router.add_get(ENDPOINTS["features"], features)
    app.router.add_get(ENDPOINTS["feature"], feature)
    app.router.add_get(ENDPOINTS["runs"], runs)
    app.router.add_get(ENDPOINTS["run"], run)
    app.router.add_get(ENDPOINTS["healthz"], healthz)
    app.router.add_get(ENDPOINTS["readyz"], readyz)
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    async with open_database(app[SETTINGS]) as database:
        app[DATABASE] = database
        app[RUNNER] = Runner(database, app[SETTINGS])
        async with database.readers.connection() as connection:
            app[FEATURES_KEY] = await read_key(connection)
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
    """All rows as a JSON array, streamed."""
    _refuse_parameters(request)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if request.method == "HEAD":
        return response
    streams = request.app[STREAMS]
    if streams.locked():
        return problem(503, f"{MOST_STREAMS} clients read the whole table already")
    async with streams, request.app[DATABASE].readers.connection() as connection:
        chunks = stream_rows(connection, request.app[FEATURES_KEY])
        async with contextlib.aclosing(chunks):
            try:
                first = await anext(chunks)  # what fails before it has a status
                await response.prepare(request)
                await _send(response, first)
                async for chunk in chunks:
                    await _send(response, chunk)
            except BaseException:
                # Only this ends a COPY whose reader is slow or gone; and where part
                # is out, the transfer breaks off instead of ending as if complete.
                await connection.close()
                if response.prepared and request.transport is not None:
                    request.transport.abort()
                raise
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(chunk)


async def feature(request: web.Request) -> web.Response:
    """One row by its key."""
    _refuse_parameters(request)
    key, value = request.app[FEATURES_KEY], request.match_info["key"]
    if key is None:
        return problem(404, "features has no key of one column")
    async with request.app[DATABASE].readers.connection() as connection:
        row = await read_row(connection, key, value)
    if row is None:
        return problem(404, f"features has no row whose {key.name} is {value!r}")
    return web.Response(text=row, content_type="application/json")


async def runs(request: web.Request) -> web.Response:
    """The history, newest first."""
    _refuse_parameters(request)
    async with request.app[DATABASE].readers.connection() as connection:
        return web.json_response(await read_runs(connection))


async def run(request: web.Request) -> web.Response:
    """One run."""
    _refuse_parameters(request)
    number = request.match_info["id"]
    if number.isascii() and number.isdecimal() and len(number) < 19:
        async with request.app[DATABASE].readers.connection() as connection:
            for record in await read_runs(connection, int(number)):
                return web.json_response(record)
    return problem(404, f"there is no run {number!r}")


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Database and schema are ready."""
    async with request.app[DATABASE].readers.connection() as connection:
        await connection.execute("select from etl.feature_columns limit 1")
    return web.json_response({"status": "ready"})


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
