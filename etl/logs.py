"""Log lines as text for people or as JSON, and which of them are written.

A message that is given named values (one mapping) has them as fields in JSON. Knows
which run a line belongs to, and nothing of what it says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from logging import LogRecord
from typing import Any

from aiohttp import web
from pythonjsonlogger.json import JsonFormatter

#: The run that this task works for.
RUN: ContextVar[int | None] = ContextVar("run", default=None)

#: What aiohttp logs as an error, and without one, where a TimeoutError ends a request:
#: here only that of a client that left.
UNEXPLAINED = "Error handling request from %s"


class TextLines(logging.Formatter):
    """One line per message, by default with the local time; a traceback follows it."""

    def __init__(self, line: str = "%(asctime)s %(levelname)s %(message)s") -> None:
        super().__init__(line)

    def formatTime(self, record: LogRecord, datefmt: str | None = None) -> str:
        """The local time, as the base class writes it."""
        return f"{_local_second(int(record.created))},{int(record.msecs):03d}"

    def formatMessage(self, record: LogRecord) -> str:
        """The line; control characters in the message are escaped, as in ``\\n``."""
        record.message = _escaped(_with_run(record.message))
        return super().formatMessage(record)


class JsonLines(JsonFormatter):
    """One object per line, ASCII: the same fields always, and the message's values."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        names |= {"message": "message", "exc_info": "exception"}
        super().__init__([*names][:-1], rename_fields=names, json_default=str)

    def add_fields(
        self, log_data: dict[str, Any], record: LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add the run and the named values; a standard field wins over one of these."""
        super().add_fields(log_data, record, message_dict)
        if (run := RUN.get()) is not None:
            log_data["run"] = run
        if isinstance(record.args, Mapping):
            for name, value in record.args.items():
                log_data.setdefault(name, value)


def start_logging(formatter: logging.Formatter, level: str) -> None:
    """Write what is logged from ``level`` on to standard error."""
    # No line has the source, thread or process of a record: see "Optimization" in the
    # manual of logging.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("psycopg.pool").setLevel("ERROR")
    logging.getLogger("aiohttp.server").addFilter(_filter_request_errors)


@lru_cache(1)
def _local_second(seconds: int) -> str:
    """A second since 1970, which many lines have in common."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _filter_request_errors(record: LogRecord) -> bool:
    """Log nothing for a client that left, stalled, or sent a body that cannot be
    decoded: that is no error, and its request has a line.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError | TimeoutError | web.RequestPayloadError):
        return False
    return not (error is None and record.msg == UNEXPLAINED)


def _with_run(message: str) -> str:
    """The message, after its run unless it names that itself."""
    run = RUN.get()
    if run is None or f"{message} ".startswith((f"run {run} ", f"run {run}:")):
        return message
    return f"run {run}: {message}"


def _escaped(text: str) -> str:
    """The text on one line, whatever a client has sent."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )
