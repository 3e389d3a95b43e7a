"""A client of a service in the test's own process, and what tests ask it for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

Client = TestClient[Request, Application]

StartService = Callable[..., Coroutine[None, None, Client]]


async def trigger(client: Client, status: int = 200, **query: str) -> dict[str, Any]:
    """Trigger a run and require ``status``; the answer's JSON."""
    async with client.get("/trigger_etl", params=query) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        assert response.status == status, answer
        return answer


async def start(client: Client, **query: str) -> int:
    """Trigger a run without waiting for it; its number."""
    return int((await trigger(client, 202, wait="false", **query))["run"]["id"])


async def features(client: Client) -> list[dict[str, Any]]:
    """The rows that GET /features returns."""
    async with client.get("/features") as response:
        assert response.status == 200
        rows: list[dict[str, Any]] = await response.json()
        return rows


async def get(client: Client, path: str, headers: dict[str, str] | None = None) -> Any:
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        return await response.json()


async def end_of(client: Client, number: int) -> dict[str, Any]:
    """The summary of a run, once it has finished."""
    async with asyncio.timeout(30):
        while True:
            run: dict[str, Any] = await get(client, f"/runs/{number}")
            if run["state"] != "running":
                return run
            await asyncio.sleep(0.02)


async def begun(client: Client) -> dict[str, Any]:
    """The summary of the run that is in progress."""
    async with asyncio.timeout(30):
        while True:
            for run in await get(client, "/runs"):
                if run["state"] == "running":
                    return dict(run)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def stalled_reader(
    client: Client, path: str = "/features"
) -> AsyncIterator[asyncio.StreamReader]:
    """A client that requests all rows, and has buffers for only a few of them."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    link.setblocking(False)
    address = (client.server.host, client.server.port)
    await asyncio.get_running_loop().sock_connect(link, address)
    reader, writer = await asyncio.open_connection(sock=link, limit=1 << 12)
    writer.write(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()


def app_of(client: Client) -> Application:
    assert client.app is not None
    return client.app
