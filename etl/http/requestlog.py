"""The log of requests: one line for each that was answered, by whom it was sent."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from etl.http.addresses import client_address

#: Requested every few seconds by whatever watches the service: log failures alone.
HEALTH_PATHS = {"/healthz", "/readyz"}

#: Characters of a path and its query that a line has: a filter may list thousands.
MAX_PATH = 2048

REQUEST = "%(remote)s %(method)s %(path)s %(status)d %(bytes)d bytes %(seconds).6f s"


class RequestLog(AbstractAccessLogger):
    """Logs one line for each request that was answered."""

    def log(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float
    ) -> None:
        """Called by aiohttp when a request was answered, after ``time`` seconds."""
        is_healthy = request.path in HEALTH_PATHS and response.status < 400
        level = logging.DEBUG if is_healthy else logging.INFO
        if not self.logger.isEnabledFor(level):
            return
        path = request.path_qs
        values = {
            "remote": client_address(request),
            "method": request.method,
            "path": path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…",
            "status": response.status,
            "bytes": response.body_length,
            "seconds": round(time, 6),
        }
        self.logger.log(level, REQUEST, values)
