"""The Postgres servers of the tests, new databases in them, and their programs."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.embedded import Cluster
from etl.postgres.folders import client_binaries
from etl.postgres.migrations import migrate
from etl.settings import PROJECT

TEMPLATE = "features_template"


@dataclass(frozen=True)
class Postgres:
    """The session's server; ``conninfo`` connects to any of its databases."""

    cluster: Cluster

    def conninfo(self, dbname: str) -> str:
        return make_conninfo(self.cluster.conninfo, dbname=dbname)

    def execute(self, statement: str, dbname: str = "postgres") -> None:
        with psycopg.connect(self.conninfo(dbname), autocommit=True) as connection:
            connection.execute(statement.encode())


async def migrate_shipped(conninfo: str) -> None:
    """Give a database the shipped schema."""
    async with await AsyncConnection.connect(conninfo, autocommit=True) as one:
        await migrate(one, PROJECT / "sql")


_numbers = itertools.count(1)


@contextmanager
def new_database(postgres: Postgres, made_from: str) -> Iterator[str]:
    """The connection string of a database that exists inside the with block."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"create database {name} template {made_from} strategy file_copy")
    yield postgres.conninfo(name)
    postgres.execute(f"drop database {name} with (force)")


class OwnPostgres:
    """A Postgres of the test's own, to stop and start."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.cluster: Cluster | None = None
        self.conninfo = self.start()

    def start(self) -> str:
        self.cluster = embedded.start(self.state_dir)
        return self.cluster.conninfo

    def stop(self) -> None:
        if self.cluster is not None:
            embedded.stop(self.cluster)
            self.cluster = None


def run_program(name: str, conninfo: str, *arguments: str) -> str:
    """Run psql or another program of PostgreSQL on a database; return its output."""
    command = [str(client_binaries() / name), "--dbname", conninfo, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout
