"""The two ways to run: as a server, or once. Turns faults of the start into exit codes.

Knows what stands in front of both: settings, logging, signals, the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout

from etl.api.routes import create_app
from etl.errors import DatabaseUnavailable
from etl.http.connections import (
    IDLE_SECONDS,
    accept_clients,
    max_connections,
    raise_descriptor_limit,
)
from etl.logs import BareLines, JsonLines, RequestLog, TextLines, start_logging
from etl.postgres.database import DatabaseError, open_database
from etl.postgres.process import EmbeddedError
from etl.run.runs import RunInProgress, Runner
from etl.settings import Settings, SettingsError, unused_names
from etl.signals import until_signal
from etl.sqlfiles import SqlFileError
from etl.terminal import follow, show_features, show_rejects

#: Exit codes: a run that failed, a start that could not be, and a stop signal.
FAILED, CANNOT_START, INTERRUPTED = 1, 2, 130

#: Seconds that a stop waits for requests; a run in progress is interrupted before. A
#: reader that has stalled takes it twice, and `docker stop` kills after ten.
STOP_SECONDS = 3.0

START_FAULTS = (SettingsError, DatabaseError, EmbeddedError, SqlFileError)

log = logging.getLogger(__name__)


def serve(environ: Mapping[str, str], pipeline: Path | None = None) -> int:
    """Serve a pipeline until a stop signal. Returns the exit code."""
    try:
        settings = Settings.from_environ(environ, pipeline)
        start_logging(JsonLines() if settings.log_json else TextLines(), "INFO")
        with _listening_socket(settings) as listener:
            _warn_of_unused(environ)
            _warn_of_strangers(settings, listener.getsockname()[0])
            asyncio.run(_serve(settings, listener))
    except START_FAULTS as error:
        return _cannot_start(error)
    except asyncio.CancelledError:
        pass  # that is how a server ends
    return 0


async def _serve(settings: Settings, listener: socket.socket) -> None:
    runner = create_runner(settings)

    async def serve_for_ever() -> None:
        await runner.setup()
        most = max_connections(raise_descriptor_limit())
        stack.callback((await accept_clients(runner.server, listener, most)).close)
        host, port = listener.getsockname()[:2]
        place = f"[{host}]" if ":" in host else host
        print(f"Serving on http://{place}:{port}", flush=True)
        await asyncio.Event().wait()

    try:
        with contextlib.ExitStack() as stack:
            await until_signal(serve_for_ever())
    finally:
        await runner.cleanup()


def create_runner(
    settings: Settings, *, idle_seconds: float = IDLE_SECONDS
) -> web.AppRunner:
    """What answers the requests of a connection, and closes it when it is idle."""
    return web.AppRunner(
        create_app(settings),
        handler_cancellation=True,
        keepalive_timeout=idle_seconds,
        shutdown_timeout=STOP_SECONDS,
        access_log_class=RequestLog,
    )


def run_once(environ: Mapping[str, str], pipeline: Path | None = None) -> int:
    """Do one run, show its progress and the first rows. Returns the exit code."""
    try:
        settings = Settings.from_environ(environ, pipeline)
        start_logging(JsonLines() if settings.log_json else BareLines(), "WARNING")
        # The outcome is printed here, and what else ends with it is of no interest.
        for name in ("etl.run.runs", "etl.run.faults", "psycopg"):
            logging.getLogger(name).setLevel("ERROR")
        _warn_of_unused(environ)
        return asyncio.run(until_signal(_run_once(settings, pipeline)))
    except START_FAULTS as error:
        return _cannot_start(error)
    except BrokenPipeError:
        _mute()
        return 0
    except asyncio.CancelledError:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


async def _run_once(settings: Settings, pipeline: Path | None) -> int:
    async with open_database(settings) as database:
        runner = Runner(database, settings)
        try:
            run = await runner.start()
        except RunInProgress as busy:
            number = busy.summary["id"] if busy.summary else "?"
            print(f"run {number} of another server is under way", file=sys.stderr)
            return FAILED
        except DatabaseUnavailable as away:
            print(away, file=sys.stderr)
            return FAILED
        try:
            try:
                await follow(run)
            except BrokenPipeError:
                _mute()
                await run.done.wait()
            if run.fault is not None:
                # Without the database the error alone is told.
                with contextlib.suppress(psycopg.Error, PoolTimeout, BrokenPipeError):
                    await show_rejects(database, run)
                print(f"run {run.id} failed: {run.fault}", file=sys.stderr)
                return FAILED
            await show_rejects(database, run)
            await runner.wait_for_cleanup()
            await show_features(database, pipeline)
        finally:
            await runner.stop()
    return 0


def _warn_of_unused(environ: Mapping[str, str]) -> None:
    """Say once which settings name a part of a database, and no database."""
    if names := unused_names(environ):
        host = "DB_HOST" if names[0].startswith("DB_") else "PGHOST"
        log.warning("%s: ignored, since %s is not set", ", ".join(names), host)


def _warn_of_strangers(settings: Settings, host: str) -> None:
    """Say once that anyone may start runs, where that is hardly what is meant."""
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    is_guarded = address.is_loopback and not settings.api_token_read
    if not settings.api_token and not is_guarded:
        log.warning("API_TOKEN is not set: whoever reaches %s may start runs", host)


def _mute() -> None:
    """Whoever read the output has seen enough, as `head` does: the run goes on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cannot_start(error: Exception) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return CANNOT_START


@contextlib.contextmanager
def _listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """Take the port before anything is started, so that a taken one costs nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host,
            settings.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except socket.gaierror as error:
        raise SettingsError(f"HOST: {settings.host!r}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(
                    f"PORT: {settings.port} on {settings.host} is taken by another "
                    "program: set another PORT"
                ) from None
            raise SettingsError(
                f"HOST, PORT: cannot listen on {settings.host}:{settings.port}: "
                f"{error.strerror}"
            ) from None
        yield listener
