"""Bounds the connections of clients below the descriptors that the process may have.

Stands between asyncio, which accepts a connection, and aiohttp, whose server makes the
protocol that reads its requests. Knows no route.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import socket
import time
from collections.abc import Callable
from heapq import nsmallest
from typing import Any

from aiohttp import web

#: Connections at most, whatever the system allows: an idle one takes 6 KB.
MAX_CONNECTIONS = 4096

#: Descriptors for all else: pools of connections to Postgres, files, pipes, and
#: connections that are accepted only to be refused.
RESERVED_DESCRIPTORS = 256

#: Seconds that a connection may be without a whole request header: after it was made,
#: or after its last answer. Longer than proxies keep one (nginx and AWS: 60), so that
#: they do not send into a connection that closes.
IDLE_SECONDS = 75.0

#: Connections accepted in one turn of the event loop, and those that the system queues.
ACCEPTED_AT_ONCE, QUEUED = 16, 512

#: Seconds between two log lines of the same kind.
LOG_SECONDS = 60

#: Errors of accept() that go away when others close their files.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

REFUSAL = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "too many connections are open: try again in a moment",
}

log = logging.getLogger(__name__)

Factory = Callable[[], asyncio.Protocol]


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS has an unlimited hard limit, and refuses it
        hard = soft
    return MAX_CONNECTIONS * 2 if hard == resource.RLIM_INFINITY else hard


def max_connections(descriptors: int) -> int:
    """How many connections clients may have where so many files may be open."""
    room = max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2)
    return min(MAX_CONNECTIONS, room)


async def accept_clients(
    server: web.Server | None, listener: socket.socket, most: int
) -> asyncio.Server:
    """Accept connections of clients, ``most`` at once, until the result is closed.

    An accept that the system refuses is a log line a minute, and tried again.
    """
    if server is None:
        raise RuntimeError("the server is made by setup() of its runner")
    loop = asyncio.get_running_loop()
    complain = _Complaints()

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        match error:
            case OSError(errno=number) if number in EXHAUSTED and "socket" in context:
                complain("no connection can be accepted: %s", error.strerror)
            case _:
                loop.default_exception_handler(context)

    loop.set_exception_handler(on_error)
    accepting = await loop.create_server(
        _protocols(server, most), sock=listener, backlog=ACCEPTED_AT_ONCE
    )
    listener.listen(QUEUED)
    return accepting


def _protocols(server: web.Server, most: int) -> Factory:
    """Makes the protocol of each new connection.

    Where there are ``most`` of them already, those that have waited longest for a
    request are closed, some at once; where all have one, the new one is refused.
    """
    complain = _Complaints()

    def make() -> asyncio.Protocol:
        if len(server.connections) < most:
            return server()
        opened = [one for one in server.connections if not one._force_close]
        if len(opened) < most:  # others are closing
            return server()
        complain("%d connections are open: idle ones are closed", len(opened))
        waiting = [one for one in opened if one._waiter and not one._waiter.done()]
        for one in nsmallest(
            max(1, most // 16), waiting, key=lambda one: one._next_keepalive_close_time
        ):
            one.force_close()
        return server() if waiting else _Refusal()

    return make


class _Refusal(asyncio.Protocol):
    """Answers 503 at once, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        body = json.dumps(REFUSAL).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\n"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nRetry-After: 2\r\nConnection: close\r\n\r\n"
        )
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(head.encode() + body)
        transport.close()


class _Complaints:
    """Logs warnings of one kind, one a minute."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, message: str, *values: object) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOG_SECONDS
            log.warning(message, *values)
