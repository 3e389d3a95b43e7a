"""A real Postgres for the whole session, and a database of its own for every test."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from etl.api.routes import create_app
from etl.postgres import embedded
from etl.postgres.embedded import Cluster
from etl.postgres.folders import client_binaries
from etl.postgres.migrations import migrate
from etl.settings import PROJECT, Settings

TEMPLATE = "features_template"

Client = TestClient[Request, Application]
StartService = Callable[..., Coroutine[None, None, Client]]


@dataclass(frozen=True)
class Postgres:
    """The session's server; ``conninfo`` names any of its databases."""

    cluster: Cluster

    def conninfo(self, dbname: str) -> str:
        return make_conninfo(self.cluster.conninfo, dbname=dbname)

    def execute(self, statement: str, dbname: str = "postgres") -> None:
        with psycopg.connect(self.conninfo(dbname), autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A folder that the server's user may reach, as pytest's own is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="features-etl-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(state_folder: Path) -> Iterator[Postgres]:
    """The embedded Postgres with a template database that has the shipped schema."""
    server = Postgres(embedded.start(state_folder))
    server.execute("alter system set fsync = off")
    server.execute("select pg_reload_conf()")
    server.execute(f"create database {TEMPLATE}")
    asyncio.run(_migrate(server.conninfo(TEMPLATE)))
    yield server
    embedded.stop(server.cluster)


async def _migrate(conninfo: str) -> None:
    async with await AsyncConnection.connect(conninfo, autocommit=True) as one:
        await migrate(one, PROJECT / "sql")


_numbers = itertools.count(1)


@contextmanager
def new_database(postgres: Postgres, made_from: str) -> Iterator[str]:
    """The connection string of a database that is there while in here."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"create database {name} template {made_from} strategy file_copy")
    yield postgres.conninfo(name)
    postgres.execute(f"drop database {name} with (force)")


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """The connection string of a new database without any schema."""
    with new_database(postgres, "template1") as conninfo:
        yield conninfo


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The connection string of a new database with the shipped schema."""
    with new_database(postgres, TEMPLATE) as conninfo:
        yield conninfo


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A copy of the shipped data, for a test to change."""
    folder = tmp_path / "data"
    shutil.copytree(PROJECT / "data", folder)
    return folder


@pytest.fixture
def sql_dir(tmp_path: Path) -> Path:
    """A copy of the shipped pipeline, for a test to change."""
    return Path(shutil.copytree(PROJECT / "sql", tmp_path / "sql"))


@pytest.fixture
def settings(database: str, data_dir: Path, tmp_path: Path) -> Settings:
    """The shipped pipeline on the test's own data and database."""
    return Settings(
        port=0,
        data_dir=data_dir,
        state_dir=tmp_path / "state",
        load_workers=2,
        build_workers=2,
        database=database,
    )


@pytest.fixture
async def start_service(settings: Settings) -> AsyncIterator[StartService]:
    """Starts a service in this process and returns a client of it."""
    clients: list[Client] = []

    async def start(**changes: Any) -> Client:
        client = TestClient(TestServer(create_app(replace(settings, **changes))))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in reversed(clients):
        await client.close()


@pytest.fixture
async def client(start_service: StartService) -> Client:
    """A client of a service with the test's settings."""
    return await start_service()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[AsyncConnection]:
    """A connection of a user beside the service; autocommit."""
    connected = await AsyncConnection.connect(database, autocommit=True)
    async with connected:
        yield connected


async def trigger(client: Client, status: int = 200, **query: str) -> dict[str, Any]:
    """Trigger a run and require ``status``; the answer's JSON."""
    async with client.get("/trigger_etl", params=query) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        assert response.status == status, answer
        return answer


async def features(client: Client) -> list[dict[str, Any]]:
    """What GET /features gives."""
    async with client.get("/features") as response:
        assert response.status == 200
        rows: list[dict[str, Any]] = await response.json()
        return rows


@asynccontextmanager
async def held_up(connection: AsyncConnection) -> AsyncIterator[None]:
    """While in here, a run that begins waits for a lock on its first table."""
    async with connection.transaction():
        await connection.execute("lock table staging.users")
        yield


async def get(client: Client, path: str) -> Any:
    async with client.get(path) as response:
        assert response.status == 200
        return await response.json()


async def end_of(client: Client, number: int) -> dict[str, Any]:
    """The record of a run once it is over."""
    async with asyncio.timeout(30):
        while True:
            run: dict[str, Any] = await get(client, f"/runs/{number}")
            if run["state"] != "running":
                return run
            await asyncio.sleep(0.02)


async def begun(client: Client) -> dict[str, Any]:
    """The record of the run that is under way."""
    async with asyncio.timeout(30):
        while True:
            for run in await get(client, "/runs"):
                if run["state"] == "running":
                    return dict(run)
            await asyncio.sleep(0.02)


def run_program(name: str, conninfo: str, *arguments: str) -> str:
    """Run psql or another program of PostgreSQL on a database; what it printed."""
    command = [str(client_binaries() / name), "--dbname", conninfo, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout
