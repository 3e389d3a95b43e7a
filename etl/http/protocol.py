"""Reads the requests of a connection, refuses what cannot be read as one, logs each.

Adds to aiohttp's protocol the bounds of a request's lines, and answers as all others
are: problems with the status that says why, logged and counted.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError, LineTooLong

from etl.http.addresses import client_address
from etl.http.headers import COMMON_HEADERS
from etl.http.problems import problem

#: Bytes of a request's target: a filter may list thousands of keys. Bytes of a header
#: with its name, and how many there may be. (The two bounds of bytes must differ: an
#: error of aiohttp says which of them it is by its number.)
MAX_TARGET_BYTES, MAX_HEADER_BYTES, MAX_HEADERS = 1 << 16, 8190, 128

#: The methods of all routes.
METHODS = "DELETE, GET, HEAD, OPTIONS, POST, PUT"

#: Seconds for which a client may still send after it was refused.
LINGER_SECONDS = 1.0

#: The errors of aiohttp that only their messages tell apart.
TOO_MANY, NO_HOST = "Too many headers received", "Missing 'Host' header in request."
TLS = "Received HTTPS traffic on an HTTP port"

#: A request line that is one but for its method, in the message of an error.
_REQUEST_LINE = re.compile(r"b(['\"])[!#$%&'*+.^_`|~\w-]+ \S+ HTTP/1\.[01]\1", re.ASCII)

#: Requested every few seconds by whatever watches the service: log failures alone.
HEALTH_PATHS = {"/healthz", "/readyz"}

#: Characters of a path and its query that a line has: a filter may list thousands.
MAX_PATH = 2048

REQUEST = "%(remote)s %(method)s %(path)s %(status)d %(bytes)d bytes %(seconds).6f s"


class Protocol(web.RequestHandler):
    """A connection; ``count_refused`` gets the status of each request refused here."""

    __slots__ = ("_count_refused", "_has_refused")

    def __init__(
        self,
        server: web.Server,
        *,
        count_refused: Callable[[int], None] = lambda status: None,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._count_refused = count_refused
        self._has_refused = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not read, as it does for other errors.

        Repeats none of its bytes, of which any may be a part of a token.
        """
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        status, detail = _reason(exc)
        self._count_refused(status)
        answer = problem(status, detail)
        answer.headers.update(COMMON_HEADERS)  # it never reaches the application
        if status == 405:
            answer.headers["Allow"] = METHODS
        answer.force_close()
        # aiohttp then reads no further request, and leaves closing to ``start``.
        self._has_refused = self._force_close = True
        return answer

    async def start(self) -> None:
        """Answer requests until the connection is to be closed.

        After a refusal the client may still be sending: to close with bytes unread
        would reset the connection, and the client might never read the answer.
        """
        await super().start()
        if self._has_refused and isinstance(self.transport, asyncio.Transport):
            self.transport.write_eof()
            await asyncio.sleep(LINGER_SECONDS)  # cancelled when the client closes
            self.transport.close()


class RequestLog(AbstractAccessLogger):
    """Logs one line for each request that was answered, at the end of the turn of the
    event loop that answered it.

    A turn answers several under load. Their lines in a row take a third of the time
    that they take one by one between other work: a tenth of a small request.
    """

    def __init__(self, logger: logging.Logger, log_format: str = "") -> None:
        super().__init__(logger, log_format)
        self._waiting: list[tuple[int, dict[str, object]]] = []

    def log(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float
    ) -> None:
        """Called by aiohttp when a request was answered, after ``time`` seconds."""
        is_healthy = request.path in HEALTH_PATHS and response.status < 400
        level = logging.DEBUG if is_healthy else logging.INFO
        if not self.logger.isEnabledFor(level):
            return
        path = request.path_qs
        values: dict[str, object] = {
            "remote": client_address(request),
            "method": request.method,
            "path": path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…",
            "status": response.status,
            "bytes": response.body_length,
            "seconds": round(time, 6),
        }
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append((level, values))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for level, values in waiting:
            self.logger.log(level, REQUEST, values)


def _reason(error: HttpProcessingError) -> tuple[int, str]:
    match error:
        case LineTooLong(args=(_, limit, *_)) if limit == MAX_TARGET_BYTES:
            return 414, f"the URL is longer than {MAX_TARGET_BYTES} bytes"
        case LineTooLong():
            return 431, f"a header is longer than {MAX_HEADER_BYTES} bytes"
        case _ if error.message == TOO_MANY:
            return 431, f"there are more than {MAX_HEADERS} headers"
        case BadStatusLine() if _REQUEST_LINE.search(error.message):
            return 405, f"the method is not one of {METHODS}"
        case _ if error.message == NO_HOST:
            return 400, "a request of HTTP/1.1 has the header Host"
        case _ if error.message == TLS:
            return 400, "this port speaks HTTP, not HTTPS"
    return 400, "this is not a request that can be read as HTTP/1.1"
