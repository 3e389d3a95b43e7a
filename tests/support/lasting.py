"""A service in the test's own process for tests that are not coroutines: it stays up
from one generated example to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from aiohttp.test_utils import TestClient, TestServer

from etl.api.routes import create_app
from etl.settings import Settings
from tests.support.client import Client


@dataclass(frozen=True)
class LastingService:
    """The service, its files, and a connection to its database."""

    loop: asyncio.AbstractEventLoop
    client: Client
    data_dir: Path
    connection: psycopg.Connection

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)


S = TypeVar("S", bound=LastingService)


@contextmanager
def lasting_service(kind: type[S], chosen: Settings) -> Iterator[S]:
    """A service of this kind inside the with block; its database is a named one."""
    loop = asyncio.new_event_loop()
    client: Client = TestClient(TestServer(create_app(chosen), loop=loop), loop=loop)
    loop.run_until_complete(client.start_server())
    with psycopg.connect(chosen.database or "", autocommit=True) as connection:
        yield kind(loop, client, chosen.data_dir, connection)
    loop.run_until_complete(client.close())
    loop.close()
