"""A Citus on which tests make databases: each is made on every node of the cluster."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row

from tests.support.databases import Postgres

#: The nodes of the named database's cluster; group 0 is the coordinator.
NODES = """
select nodename as host, nodeport as port, groupid = 0 as coordinates, shouldhaveshards
from pg_dist_node where noderole = 'primary' order by groupid
"""


@dataclass(frozen=True)
class Node:
    """A node, by the address that the others have for it."""

    host: str
    port: int
    coordinates: bool
    shouldhaveshards: bool


class Citus(Postgres):
    """A cluster; ``server`` connects to a database of its coordinator.

    What a cluster knows of itself is in tables of each database, so copies of one on
    every node are a cluster too, with its distributed tables.
    """

    @property
    def empty_template(self) -> str:
        return f"{self.prefix}_empty"

    async def make_templates(self) -> None:
        self._create_cluster(self.empty_template)
        self._disconnect(self.empty_template)
        await super().make_templates()
        self._disconnect(self.template)

    def drop_templates(self) -> None:
        super().drop_templates()
        self.drop(self.empty_template)

    def drop(self, name: str) -> None:
        self._disconnect(name)  # a daemon of Citus would connect again
        self.execute(f"drop database {name} with (force)")

    def execute(self, *statements: str) -> None:
        """Execute them on every node."""
        for server in self._servers():
            with psycopg.connect(server, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement.encode())

    def create(self, name: str, template: str) -> None:
        super().create(name, template)
        with psycopg.connect(self.server) as connection:
            ((shards,),) = connection.execute("show citus.shard_count").fetchall()
        self.execute(f"alter database {name} set citus.shard_count = {shards}")

    def _create_cluster(self, name: str) -> None:
        """A database with the nodes of the named one."""
        self.create(name, "template0")
        for server in self._servers():
            conninfo = make_conninfo(server, dbname=name)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute("create extension citus")
        with psycopg.connect(self.conninfo(name), autocommit=True) as connection:
            for node in self._nodes():
                address = [node.host, node.port]
                if node.coordinates:
                    add = "select citus_set_coordinator_host(%s, %s)"
                else:
                    add = "select citus_add_node(%s, %s)"
                connection.execute(add.encode(), address)
                connection.execute(
                    "select citus_set_node_property(%s, %s, 'shouldhaveshards', %s)",
                    [*address, node.shouldhaveshards],
                )

    def _disconnect(self, name: str) -> None:
        """End all sessions there: none may use what is copied or dropped."""
        self.execute(f"alter database {name} allow_connections false")
        self.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            f" where datname = '{name}'"
        )

    def _nodes(self) -> list[Node]:
        with psycopg.connect(self.server, row_factory=class_row(Node)) as connection:
            return connection.execute(NODES).fetchall()

    def _servers(self) -> list[str]:
        """The connection strings of the same database on every node."""
        workers = [node for node in self._nodes() if not node.coordinates]
        return [
            self.server,
            *(make_conninfo(self.server, host=n.host, port=n.port) for n in workers),
        ]
