"""The servers on which tests make databases, and PostgreSQL's programs on them."""

from __future__ import annotations

import itertools
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.embedded import Cluster
from etl.postgres.folders import client_binaries
from etl.postgres.migrations import migrate
from etl.settings import PROJECT


def _new_prefix() -> str:
    """Processes that test at once, and other suites, may share a server."""
    return f"features_test_{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Postgres:
    """A server; ``server`` is the connection string of a database that it has.

    How a new database comes about is here, and nowhere else.
    """

    server: str
    prefix: str = field(default_factory=_new_prefix)

    def conninfo(self, dbname: str) -> str:
        return make_conninfo(self.server, dbname=dbname)

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @property
    def is_superuser(self) -> bool:
        """Whether the suite may do all on this server."""
        with psycopg.connect(self.server) as connection:
            return connection.info.parameter_status("is_superuser") == "on"

    @property
    def empty_template(self) -> str:
        return "template0"

    @property
    def template(self) -> str:
        """The database with the shipped schema, which others are copies of."""
        return f"{self.prefix}_template"

    async def make_templates(self) -> None:
        self.create(self.template, self.empty_template)
        await migrate_shipped(self.conninfo(self.template))

    def drop_templates(self) -> None:
        self.drop(self.template)

    def create(self, name: str, template: str) -> None:
        self.execute(f"create database {name} template {template} strategy file_copy")

    def drop(self, name: str) -> None:
        # An ordinary role may not force it where an autovacuum works, a superuser's.
        self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            f" where datname = '{name}' and usename = current_user",
            f"drop database {name}",
        )


async def migrate_shipped(conninfo: str) -> None:
    """Give a database the shipped schema."""
    async with await AsyncConnection.connect(conninfo, autocommit=True) as one:
        await migrate(one, PROJECT / "sql")


_numbers = itertools.count(1)


@contextmanager
def new_database(postgres: Postgres, *, migrated: bool = True) -> Iterator[str]:
    """The connection string of a database that exists inside the with block."""
    name = f"{postgres.prefix}_{next(_numbers)}"
    postgres.create(name, postgres.template if migrated else postgres.empty_template)
    yield postgres.conninfo(name)
    postgres.drop(name)


class OwnPostgres:
    """An embedded Postgres of the test's own, to stop and start."""

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
