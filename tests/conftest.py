"""A real Postgres for the whole session, and a database of its own for every test.

It is an embedded one, or the server that TEST_DATABASE_URL names.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp.test_utils import TestClient, TestServer
from psycopg import AsyncConnection

from etl.api.routes import create_app
from etl.postgres import embedded
from etl.postgres.folders import release_reserve
from etl.postgres.roles import CREATE
from etl.settings import PROJECT, Settings
from tests.support.citus import Citus
from tests.support.client import Client, StartService
from tests.support.databases import Postgres, new_database
from tests.support.memory import temporary_folder
from tests.support.named import NAMED, open_named

# A busy machine may take any time for an example.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a named server that cannot be used before any test is run."""
    if url := os.environ.get(NAMED):
        open_named(url)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of what a Postgres does: ``-m database`` selects them."""
    for item in items:
        uses_it = "postgres" in getattr(item, "fixturenames", ())
        if uses_it and item.get_closest_marker("any_postgres") is None:
            item.add_marker("database")


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A folder that the server's user may reach, as pytest's own is closed to it."""
    with temporary_folder("features-etl-tests-") as folder:
        yield folder


@pytest.fixture(autouse=True)
def remove_state(state_folder: Path) -> Iterator[None]:
    """Remove what a test leaves there: a cluster with its WAL has over 100 MB."""
    before = {*state_folder.iterdir()}
    yield
    for left in {*state_folder.iterdir()} - before:
        shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(state_folder: Path) -> Iterator[Postgres]:
    """The session's Postgres, with a template of the shipped schema."""
    with ExitStack() as stack:
        if url := os.environ.get(NAMED):
            server = open_named(url)
        else:
            cluster = embedded.start(state_folder)
            stack.callback(embedded.stop, cluster)
            server = Postgres(cluster.conninfo)
            server.execute("alter system set fsync = off")
            server.execute("select pg_reload_conf()")
            release_reserve(cluster.home)
            server.execute(CREATE.as_string())
        asyncio.run(server.make_templates())
        stack.callback(server.drop_templates)
        yield server


@pytest.fixture(autouse=True)
def plain_postgres_only(request: pytest.FixtureRequest) -> None:
    """Skip a test of plain Postgres alone where the session has a Citus."""
    marker = request.node.get_closest_marker("plain_postgres")
    if marker and isinstance(request.getfixturevalue("postgres"), Citus):
        pytest.skip(f"not on Citus: {marker.args[0]}")


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """The connection string of a new database without any schema."""
    with new_database(postgres, migrated=False) as conninfo:
        yield conninfo


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The connection string of a new database with the shipped schema."""
    with new_database(postgres) as conninfo:
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
