"""A service whose table has columns of many types, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.databases import Postgres, new_database
from tests.support.node import install
from tests.support.processes import serving

FILL = Path(__file__).with_name("features.sql")


@pytest.fixture(scope="package")
def filled(postgres: Postgres) -> Iterator[str]:
    """The connection string of a database with these columns and rows."""
    with new_database(postgres) as database:
        with psycopg.connect(database, autocommit=True) as connection:
            for statement in FILL.read_text().split(";\n"):
                connection.execute(statement.encode())
        yield database


@pytest.fixture(scope="package")
def url(filled: str) -> Iterator[str]:
    """Where the service is; its root is the base of the clients."""
    with serving(DATABASE_URL=filled) as (_, address):
        yield address


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config) -> Path:
    """Where the clients that npm has are installed, kept between sessions."""
    assert pytestconfig.cache is not None
    return install(pytestconfig.cache.mkdir("clients"))
