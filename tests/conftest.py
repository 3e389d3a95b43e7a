"""A real Postgres for the whole session, and a database of its own for every test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from psycopg import AsyncConnection

from etl.api.routes import create_app
from etl.postgres import embedded
from etl.settings import PROJECT, Settings
from tests.support.client import Client, StartService
from tests.support.databases import TEMPLATE, Postgres, migrate_shipped, new_database


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
    asyncio.run(migrate_shipped(server.conninfo(TEMPLATE)))
    yield server
    embedded.stop(server.cluster)


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
