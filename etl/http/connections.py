"""Bounds the connections of clients below the descriptors that the process may have.

Works between asyncio, which accepts connections, and aiohttp's server, which reads the
requests of one. Knows no route.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.log import access_logger

from etl.http.addresses import Networks, ip_of, is_in, network_of
from etl.http.headers import COMMON_HEADERS
from etl.http.problems import problem
from etl.http.protocol import Protocol, RequestLog

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

#: Turns of the event loop from an accept until the server knows the connection. In
#: between asyncio loses one, still open, if its own server is closed (gh-109564).
TURNS_TO_CONNECT = 2

#: Seconds between two log lines of the same kind.
LOG_SECONDS = 60

#: Errors of accept() that pass when other files are closed.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

REFUSED = "too many connections are open: try again in a moment"
CLOSING = "idle ones are closed"

log = logging.getLogger(__name__)


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


@asynccontextmanager
async def accepting_clients(
    server: web.Server | None,
    listener: socket.socket,
    most: int,
    proxies: Networks = (),
) -> AsyncIterator[None]:
    """While in here, accept connections of clients, ``most`` at once, and half of them
    of one client that is none of the trusted ``proxies``.

    An accept that the system refuses is one log line a minute, and tried again. At the
    end ``server`` knows every connection, so that its shutdown() closes all of them.
    """
    if server is None:
        raise RuntimeError("the server exists after setup() of its runner")
    loop = asyncio.get_running_loop()
    warn = _Warnings()

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        match context.get("exception"):
            case OSError(errno=number) as error if number in EXHAUSTED:
                warn("no connection can be accepted: %s", error.strerror)
            case _:
                loop.default_exception_handler(context)

    loop.set_exception_handler(on_error)
    room = _Room(server, most, proxies)
    request_log = RequestLog(access_logger)

    def connect() -> asyncio.Protocol:
        # What the server itself would make, of our class, and with one log for all.
        connection = _Connection(server, loop=server._loop, **server._kwargs)
        connection.access_logger, connection.room = request_log, room
        return connection

    accepting = await loop.create_server(
        connect, sock=listener, backlog=ACCEPTED_AT_ONCE
    )
    listener.listen(QUEUED)
    try:
        yield
    finally:
        loop.remove_reader(listener)
        for _ in range(TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        accepting.close()


class _Connection(Protocol):
    """A connection that is served where ``room`` has some for its client.

    ``client`` is whose it is (see ``network_of``), None for one of a trusted proxy.
    """

    __slots__ = ("client", "room")

    client: str | None
    room: _Room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address, *_ = transport.get_extra_info("peername") or (None,)
        is_proxy = is_in(ip_of(address or ""), self.room.proxies)
        self.client = None if is_proxy else network_of(address)
        if self.room.make_for(self):
            super().connection_made(transport)
        elif isinstance(transport, asyncio.Transport):
            _refuse(transport)


class _Room:
    """For ``most`` connections of a server, and half of them of one client."""

    def __init__(self, server: web.Server, most: int, proxies: Networks) -> None:
        self.proxies = proxies
        self._server, self._most = server, most
        self._warn = _Warnings()

    def make_for(self, arriving: _Connection) -> bool:
        """Whether there is room for a connection, or some was made.

        Where none is left, those of the connections in its way that have waited longest
        for a request are closed, some at once; none where all are in use.
        """
        if len(self._server.connections) < self._most // 2:
            return True
        opened = [
            each
            for each in self._server.connections
            if isinstance(each, _Connection) and each.transport is not None
        ]
        own = [each for each in opened if each.client == arriving.client]
        if arriving.client and len(own) >= max(1, self._most // 2):
            self._warn("%d connections of one client are open: %s", len(own), CLOSING)
            opened = own
        elif len(opened) >= self._most:  # others may be closing
            self._warn("%d connections are open: %s", len(opened), CLOSING)
        else:
            return True
        # aiohttp has no public names for what waits for a request, and how long.
        idle = [each for each in opened if each._waiter and not each._waiter.done()]
        idle.sort(key=lambda each: each._next_keepalive_close_time)
        for each in idle[: max(1, len(opened) // 16)]:
            each.force_close()
        return bool(idle)


def _refuse(transport: asyncio.Transport) -> None:
    """Answer 503 at once, and close."""
    answer = problem(503, REFUSED)
    headers = {**answer.headers, **COMMON_HEADERS, "Connection": "close"}
    headers["Content-Length"] = str(answer.content_length)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line = f"HTTP/1.1 503 {answer.reason}\r\n"
    transport.write(f"{line}{head}\r\n{answer.text}".encode())
    transport.close()


class _Warnings:
    """Logs warnings of one kind, one a minute."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, message: str, *values: object) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOG_SECONDS
            log.warning(message, *values)
