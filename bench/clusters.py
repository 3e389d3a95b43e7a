"""A new database on plain Postgres or on a Citus, and the servers that work for it.

The servers must run on this machine, and do nothing else meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cpu
import psycopg
from postgres import Postgres, settle
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row
from stopping import undisturbed

#: The nodes of a cluster, the coordinator first.
NODES = """
select
    nodename as host,
    nodeport as port,
    shouldhaveshards as holds_shards,
    current_setting('citus.shard_count')::integer as shards
from pg_dist_node
where noderole = 'primary'
order by groupid
"""


@dataclass(frozen=True)
class _Node:
    host: str
    port: int
    holds_shards: bool
    shards: int


@dataclass(frozen=True)
class Server:
    """A server of a database, and its first process."""

    name: str
    conninfo: str
    postmaster: int
    holds_shards: bool


@dataclass(frozen=True)
class Database:
    """A database: its first server is the one to connect to."""

    title: str
    servers: Sequence[Server]

    @property
    def conninfo(self) -> str:
        return self.servers[0].conninfo

    @property
    def is_distributed(self) -> bool:
        return len(self.servers) > 1

    def seconds(self) -> list[float]:
        """The CPU seconds that each server has taken so far."""
        return [cpu.of_postgres(server.postmaster) for server in self.servers]

    def settle(self) -> None:
        """Wait until nobody works on any server, and write out what is left."""
        for server in self.servers:
            settle(server.conninfo)

    def value(self, query: str) -> object:
        """The first value of a query's first row."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


@contextmanager
def plain_database(postgres: Postgres, name: str) -> Iterator[Database]:
    """A new database of a server; it goes with the server."""
    conninfo = postgres.new_database(name)
    server = Server("server", conninfo, _postmaster(conninfo), True)
    yield Database("plain Postgres", [server])


@contextmanager
def citus_database(
    coordinator: str, name: str, shards: int | None = None
) -> Iterator[Database]:
    """A new database on every node of a Citus, which exists in here.

    Without ``shards`` a table has as many as in the database of ``coordinator``.
    """
    name = f"features_bench_{os.getpid()}_{name}"
    with psycopg.connect(coordinator, row_factory=class_row(_Node)) as connection:
        nodes = connection.execute(NODES).fetchall()
    with ExitStack() as databases:
        servers = []
        for number, node in enumerate(nodes):
            server = make_conninfo(coordinator, host=node.host, port=node.port)
            with undisturbed():
                _execute(server, f"create database {name}")
                databases.callback(
                    undisturbed()(_execute),
                    server,
                    f"drop database {name} with (force)",
                )
            conninfo = make_conninfo(server, dbname=name)
            _execute(conninfo, "create extension citus")
            title = f"worker {number}" if number else "coordinator"
            postmaster = _postmaster(conninfo)
            servers.append(Server(title, conninfo, postmaster, node.holds_shards))
        lead = servers[0].conninfo
        shards = shards or nodes[0].shards
        _execute(lead, f"alter database {name} set citus.shard_count = {shards}")
        for number, node in enumerate(nodes):
            add = "citus_add_node" if number else "citus_set_coordinator_host"
            _execute(lead, f"select {add}(%s, %s)", node.host, node.port)
            _execute(
                lead,
                "select citus_set_node_property(%s, %s, 'shouldhaveshards', %s)",
                *(node.host, node.port, node.holds_shards),
            )
        workers = len(servers) - 1
        plural = "" if workers == 1 else "s"
        yield Database(f"Citus, {workers} worker{plural}, {shards} shards", servers)


def _execute(conninfo: str, statement: str, *values: object) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement.encode(), values)


def _postmaster(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        backend = connection.info.backend_pid
        try:
            postmaster = cpu.parent_of(backend)
            if Path(f"/proc/{postmaster}/comm").read_text() == "postgres\n":
                return postmaster
        except OSError:
            pass
        where = f"{connection.info.host}:{connection.info.port}"
    raise RuntimeError(f"{where}: no process of this machine, so it cannot be measured")
