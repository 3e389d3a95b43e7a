"""The two ways to run: as a server, or once. Turns faults of the start into exit codes.

Owns what comes before both: settings, logging, signals, the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Mapping
from pathlib import Path

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout

from etl.api.metrics import METRICS
from etl.api.routes import create_app
from etl.errors import DatabaseUnavailable
from etl.http.addresses import ip_of
from etl.http.connections import (
    IDLE_SECONDS,
    accepting_clients,
    max_connections,
    raise_descriptor_limit,
)
from etl.http.protocol import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    RequestLog,
)
from etl.logs import JsonLines, TextLines, start_logging
from etl.postgres.database import DatabaseError, open_database
from etl.postgres.process import EmbeddedError
from etl.postgres.sqlerrors import one_line
from etl.run.runs import RunInProgress, Runner
from etl.settings import Settings, SettingsError, unused_names
from etl.signals import until_signal
from etl.sqlfiles import SqlFileError
from etl.standardstreams import print_error, print_text
from etl.terminal import show_features, show_files, show_progress, show_rejects

#: Exit codes: a run that failed, a start that could not be, and a stop signal.
FAILED, CANNOT_START, INTERRUPTED = 1, 2, 130

#: Seconds that a stop waits for requests; a run in progress is interrupted before. A
#: reader that has stalled takes it twice, and `docker stop` kills after ten.
STOP_SECONDS = 3.0

START_FAULTS = (SettingsError, DatabaseError, EmbeddedError, SqlFileError)

log = logging.getLogger(__name__)


def start(
    environ: Mapping[str, str], pipeline: Path | None = None, *, once: bool = False
) -> int:
    """Serve a pipeline until a stop signal, or do one run. Returns the exit code."""
    descriptors = raise_descriptor_limit()  # Postgres gets it too
    try:
        settings = Settings.from_environ(environ, pipeline)
        is_json = settings.log_format == "json"
        text = TextLines("%(message)s") if once else TextLines()
        start_logging(JsonLines() if is_json else text, "WARNING" if once else "INFO")
        if names := unused_names(environ):
            host = "DB_HOST" if names[0].startswith("DB_") else "PGHOST"
            log.warning("%s: ignored, since %s is not set", ", ".join(names), host)
        most = max_connections(descriptors)
        work = _run_once(settings, pipeline) if once else _serve(settings, most)
        return asyncio.run(until_signal(work))
    except START_FAULTS as error:
        print_error(one_line(error))
        return CANNOT_START
    except asyncio.CancelledError:
        if once:
            print_error("interrupted")
        return INTERRUPTED if once else 0


async def _serve(settings: Settings, most: int) -> int:
    """Serve ``most`` connections of clients at once until it is cancelled."""
    with await _bind(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        _warn_if_unprotected(settings, host)
        runner = create_runner(settings)
        try:
            await runner.setup()
            proxies = settings.trusted_proxies
            async with accepting_clients(runner.server, listener, most, proxies):
                address = f"[{host}]" if ":" in host else host
                print_text(f"Serving on http://{address}:{port}")
                await asyncio.Event().wait()
        finally:
            await runner.cleanup()
    return 0


def create_runner(
    settings: Settings, *, idle_seconds: float = IDLE_SECONDS
) -> web.AppRunner:
    """What answers the requests of a connection, and closes it when it is idle."""
    app = create_app(settings)
    return web.AppRunner(
        app,
        handler_cancellation=True,
        keepalive_timeout=idle_seconds,
        shutdown_timeout=STOP_SECONDS,
        access_log_class=RequestLog,
        max_line_size=MAX_TARGET_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
        auto_decompress=False,  # see content_coding()
        count_refused=app[METRICS].count_request,
    )


async def _run_once(settings: Settings, pipeline: Path | None) -> int:
    """Do one run, show its progress and the first rows. Returns the exit code."""
    # The outcome is printed here; what else ends with the run is of no interest.
    for name in ("etl.run.runs", "etl.run.faults", "psycopg"):
        logging.getLogger(name).setLevel("ERROR")
    async with open_database(settings) as database:
        runner = Runner(database, settings)
        try:
            run = await runner.start()
        except RunInProgress as other:
            number = other.summary["id"] if other.summary else "?"
            print_error(f"run {number} of another server is in progress")
            return FAILED
        except DatabaseUnavailable as error:
            print_error(str(error))
            return FAILED
        try:
            await show_progress(run)
            if run.fault is not None:
                # Without the database, the error alone is printed.
                with contextlib.suppress(psycopg.Error, PoolTimeout):
                    await show_rejects(database, run)
                print_error(f"run {run.id} failed: {run.fault}")
                return FAILED
            show_files(run)
            await show_rejects(database, run)
            await runner.wait_for_cleanup()
            await show_features(database, pipeline)
        finally:
            await runner.stop()
    return 0


def _warn_if_unprotected(settings: Settings, host: str) -> None:
    """Warn that anyone may start runs, where that is hardly what is meant."""
    address = ip_of(host)
    is_private = address and address.is_loopback and not settings.api_token_read
    if not settings.api_token and not is_private:
        log.warning("API_TOKEN is not set: any client of %s may start runs", host)


async def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything is started, so that a taken one costs nothing."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.EADDRINUSE:
            reason = "another program has the port: set another PORT"
        raise SettingsError(
            f"HOST, PORT: cannot listen on {host}:{port}: {reason}"
        ) from None
    return listener
