"""A client of ``/runs/{id}/events``, which reads one event after the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse

from tests.support.client import Client

#: An event: its name, its id, its data.
Event = tuple[str, str, Any]


def parse_event(block: str) -> Event:
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    return lines["event"], lines["id"], json.loads(lines["data"])


class Listening:
    """An open event stream of a run, read one event at a time."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def block(self) -> str:
        """The text up to the next blank line; empty at the end."""
        async with asyncio.timeout(30):
            lines = b""
            while line := await self.response.content.readline():
                if line == b"\n":
                    break
                lines += line
            return lines.decode()

    async def next(self) -> Event:
        while (block := await self.block()).startswith(":"):
            pass
        return parse_event(block)

    async def rest(self) -> list[Event]:
        """All events up to the end of the stream."""
        async with asyncio.timeout(30):
            blocks = (await self.response.text()).split("\n\n")
        return [parse_event(block) for block in blocks if block and block[0] != ":"]


@asynccontextmanager
async def listening(client: Client, number: int = 1) -> AsyncIterator[Listening]:
    async with client.get(f"/runs/{number}/events") as response:
        assert response.status == 200, await response.text()
        yield Listening(response)


async def until(listener: Listening, **values: object) -> dict[str, Any]:
    """The next progress event with these values."""
    while True:
        name, _, state = await listener.next()
        assert name == "progress"
        if values.items() <= state.items():
            return dict(state)
