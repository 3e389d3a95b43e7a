"""More connections than the server has room for, and clients that send no request."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, TCPConnector, web
from psycopg import AsyncConnection
from yarl import URL

from etl.http.connections import (
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    REFUSED,
    accepting_clients,
    max_connections,
)
from etl.service import create_runner
from etl.settings import Settings
from tests.support.locks import held_up
from tests.support.processes import SECONDS, answer, serving

pytestmark = pytest.mark.any_postgres

#: Descriptors that the server may have, and its connections then.
DESCRIPTORS = 160
CONNECTIONS = DESCRIPTORS // 2

#: The address of another client, and any port.
OTHER = ("127.0.0.2", 0)

#: Executes a command with so many descriptors, soft and hard.
LIMITED = """
import os, resource, sys
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
os.execv(sys.argv[3], sys.argv[3:])
"""


def limited(soft: int, hard: int) -> list[str]:
    return [sys.executable, "-c", LIMITED, str(soft), str(hard)]


@contextmanager
def connected(
    url: str, number: int, sent: bytes = b""
) -> Iterator[list[socket.socket]]:
    """So many connections at once, on which this was sent."""
    parts = urlsplit(url)
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            one = socket.create_connection((parts.hostname or "", parts.port or 0))
            opened.append(stack.enter_context(one))
            one.sendall(sent)
        yield opened


def is_open(connection: socket.socket) -> bool:
    """Whether the server has neither answered nor closed it."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "]
)
def test_idle_connections_are_closed_when_there_are_too_many(
    database: str, tmp_path: Path, sent: bytes
) -> None:
    """Three times as many as descriptors: the longest idle ones are closed."""
    log = tmp_path / "log"
    wrapper = limited(DESCRIPTORS, DESCRIPTORS)
    with (
        serving(log, wrapper=wrapper, DATABASE_URL=database) as (process, url),
        connected(url, 3 * DESCRIPTORS, sent) as idle,
    ):
        for path in ("/healthz", "/readyz", "/features"):
            assert answer(f"{url}{path}")[0] == 200
        assert sum(map(is_open, idle)) <= CONNECTIONS // 2
        process.terminate()
        assert process.wait(SECONDS) == 0
    text = log.read_text()
    assert "Traceback" not in text
    assert text.count("connections of one client are open: idle ones are closed") == 1


def test_the_soft_limit_is_raised(database: str, tmp_path: Path) -> None:
    wrapper = limited(DESCRIPTORS, 4 * DESCRIPTORS)
    with (
        serving(wrapper=wrapper, DATABASE_URL=database) as (process, url),
        connected(url, 2 * DESCRIPTORS),
    ):
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert limits == (4 * DESCRIPTORS, 4 * DESCRIPTORS)
        assert answer(f"{url}/healthz")[0] == 200


def test_the_bound_leaves_room_for_other_files() -> None:
    assert max_connections(1024) == 768
    assert max_connections(100) == 50
    assert max_connections(1 << 20) == MAX_CONNECTIONS


@asynccontextmanager
async def accepting(
    settings: Settings, most: int, idle_seconds: float = IDLE_SECONDS
) -> AsyncIterator[URL]:
    """A service in this process that accepts so many connections; its address."""
    runner = create_runner(settings, idle_seconds=idle_seconds)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        async with accepting_clients(runner.server, listener, most):
            yield URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        await runner.cleanup()


async def test_busy_connections_stay_open(
    settings: Settings, connection: AsyncConnection
) -> None:
    """Another one of the same client is refused, and accepted as soon as there is room;
    another client is answered.
    """
    most = 6
    async with accepting(settings, most) as url, ClientSession() as client:
        async with held_up(connection), AsyncExitStack() as stack:
            started = await client.get(url / "trigger_etl" % {"wait": "false"})
            assert started.status == 202
            started.close()
            for _ in range(most // 2):
                listening = await client.get(url / "runs/1/events")
                await stack.enter_async_context(listening)
                assert listening.status == 200
            async with client.get(url / "healthz") as refused:
                assert refused.status == 503
                assert refused.headers["Retry-After"] == "2"
                assert refused.headers["X-Content-Type-Options"] == "nosniff"
                assert refused.content_type == "application/problem+json"
                assert (await refused.json(content_type=None))["detail"] == REFUSED
            elsewhere = TCPConnector(local_addr=OTHER)
            other = await stack.enter_async_context(ClientSession(connector=elsewhere))
            async with other.get(url / "healthz") as answered:
                assert answered.status == 200
        async with asyncio.timeout(SECONDS):
            while True:
                async with client.get(url / "healthz") as answered:
                    if answered.status == 200:
                        break


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_made_as_the_server_stops_is_closed(turns: int) -> None:
    """In whichever turn of the event loop it was accepted."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    async with accepting_clients(runner.server, listener, 10):
        client = socket.create_connection(listener.getsockname())
        for _ in range(turns):
            await asyncio.sleep(0)
    await runner.cleanup()
    with client:
        client.setblocking(False)
        assert not is_open(client)


@pytest.mark.parametrize("sent", ["", "GET / HTTP/1.1\r\n", None])
async def test_a_connection_without_a_whole_request_is_closed(
    settings: Settings, sent: str | None
) -> None:
    """One that sends nothing, a part of a header, or nothing after its first answer."""
    async with accepting(settings, 10, idle_seconds=0.1) as url:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        if sent is None:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readuntil(b"}") != b""
        else:
            writer.write(sent.encode())
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_a_trickled_header_is_closed(settings: Settings) -> None:
    """However often another byte comes."""
    async with accepting(settings, 10, idle_seconds=0.5) as url:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        closed = asyncio.create_task(reader.read())
        async with asyncio.timeout(SECONDS):
            writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            while not closed.done():
                writer.write(b"x")
                await asyncio.wait([closed], timeout=0.05)
        writer.close()


async def test_an_accept_that_fails_is_one_line(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """And the client is answered as soon as there are descriptors again."""
    async with accepting(settings, 10) as url:
        clients = [socket.socket() for _ in range(3)]
        free = os.dup(0)
        os.close(free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            for client in clients:
                client.connect((url.host, url.port))
            async with asyncio.timeout(SECONDS):
                while "no connection can be accepted" not in caplog.text:
                    await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in clients:
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(SECONDS):
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
        warnings = [line for line in caplog.records if line.levelno >= logging.WARNING]
        assert [line.getMessage() for line in warnings] == [
            "no connection can be accepted: Too many open files"
        ]
