"""Log lines: one a request, one a SQL file, as text for people or as JSON.

A message that is given named values (one mapping) has them as fields in JSON. Knows
which run a line belongs to, and nothing of what it says.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from logging import LogRecord

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

#: The run that this task works for; set once by whoever sees it through.
RUN: ContextVar[int | None] = ContextVar("run", default=None)

#: Asked every few seconds by whatever watches the service: only a failure is news.
HEALTH_PATHS = {"/healthz", "/readyz"}

#: What aiohttp logs as an error, and without one, where a TimeoutError ends a request:
#: here only that of a client that left.
UNEXPLAINED = "Error handling request from %s"

REQUEST = "%(remote)s %(method)s %(path)s %(status)d %(bytes)d bytes %(seconds).6f s"


class RequestLog(AbstractAccessLogger):
    """Logs one line for each request that was answered."""

    def log(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float
    ) -> None:
        """Called by aiohttp when a request was answered, after ``time`` seconds."""
        values = {
            "remote": request.remote,
            "method": request.method,
            "path": request.path_qs,
            "status": response.status,
            "bytes": response.body_length,
            "seconds": round(time, 6),
        }
        is_well = request.path in HEALTH_PATHS and response.status < 400
        self.logger.log(logging.DEBUG if is_well else logging.INFO, REQUEST, values)


class TextLines(logging.Formatter):
    """A line a message, with the time of this machine; a traceback follows below."""

    def format(self, record: LogRecord) -> str:
        """The line; control characters in the message are written as ``\\n`` is."""
        message = _named(_printable(record.getMessage()))
        when = f"{_local_second(int(record.created))},{int(record.msecs):03d}"
        return self._with_traceback(f"{when} {record.levelname} {message}", record)

    def _with_traceback(self, line: str, record: LogRecord) -> str:
        if record.exc_info:
            return f"{line}\n{self.formatException(record.exc_info)}"
        return line


class BareLines(TextLines):
    """A line a message and nothing before it, for the terminal."""

    def format(self, record: LogRecord) -> str:
        """The message alone."""
        return self._with_traceback(_printable(record.getMessage()), record)


class JsonLines(logging.Formatter):
    """An object a line, ASCII: what it always has, and the message's named values."""

    def format(self, record: LogRecord) -> str:
        """The object; a field that is named like a standard one does not stand."""
        entry: dict[str, object] = {
            "time": f"{_utc_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (run := RUN.get()) is not None:
            entry["run"] = run
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if isinstance(record.args, Mapping):
            entry = {**entry, **record.args, **entry}
        return json.dumps(entry, default=str)


def start_logging(formatter: logging.Formatter, level: str) -> None:
    """Write what is logged from ``level`` on to standard error."""
    # No line names its thread, process or place in the code: not to look for them
    # saves an eighth of a line (Python's logging HOWTO, "Optimization").
    for needless in ("Threads", "Processes", "Multiprocessing", "AsyncioTasks"):
        setattr(logging, f"log{needless}", False)
    logging._srcfile = None
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("psycopg.pool").setLevel("ERROR")
    logging.getLogger("aiohttp.server").addFilter(_of_requests)


def _of_requests(record: LogRecord) -> bool:
    """Of a request that is no HTTP only the kind is told: it may hold a token. Nothing
    of a client that left, stalled, or sent a body that cannot be decoded: that has a
    line of its own, and is no error.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError | TimeoutError | web.RequestPayloadError):
        return False
    if error is None and record.msg == UNEXPLAINED:
        return False
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.exc_info = f"{record.msg}: {type(error).__name__}", None
    return True


def _named(message: str) -> str:
    """With the run before it, where it belongs to one that it does not name itself."""
    run = RUN.get()
    if run is None or f"{message} ".startswith((f"run {run} ", f"run {run}:")):
        return message
    return f"run {run}: {message}"


def _printable(text: str) -> str:
    """On one line, whatever a client has sent."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


@lru_cache(1)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


@lru_cache(1)
def _utc_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
