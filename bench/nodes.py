"""What Citus costs: core-seconds of whole runs by phase and by node, beside plain
Postgres. All servers are on one machine, so this shows overhead and no speed-up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import duplicates
from broken import write_broken
from clusters import Database, citus_database, plain_database
from make_data import EXPERIMENTS_PER_USER
from phases import PHASES, Costs, costs_of_run, left, require_same
from postgres import Postgres
from report import keep, number, progress, publish, table
from runs import median_ratio
from service import Service, serving

USERS = 300_000

#: How regular records get to the nodes, by default first.
WAYS = ("nodes", "coordinator")

#: What is in the tables, in their order.
COLUMNS = tuple(dict.fromkeys(PHASES.values()))

HEAD = (
    *("database", "load through", "servers", "with Python", "÷ plain"),
    *("÷ plain, with Python", "per shard: load", "build", "whole run"),
)
NODES_HEAD = ("database", "load through", "node", *COLUMNS, "whole run")
WORDS = """\
{experiments} experiments of {users:,} users, `few`, each run with `?full=true`; \
medians of {rounds} rounds, ratios taken round by round. Core-seconds per million \
experiments. All servers share one machine: this shows what Citus costs, its overhead, \
and no speed-up."""
PROVEN = """\
Features and rejects of every run compared, to the last bit: each Citus left what \
plain Postgres left, also of a small set with broken records."""
ALONE = "No Citus was named (`--citus`): plain Postgres alone was measured."


@dataclass
class Side:
    """A service on a database, and what its runs cost, in the order of rounds."""

    database: Database
    way: str
    service: Service
    costs: list[Costs] = field(default_factory=list)

    @property
    def name(self) -> list[str]:
        return [self.database.title, self.way if self.database.is_distributed else ""]

    def seconds(self, phase: str | None, choose: Callable[[int], bool]) -> list[float]:
        """Of each round, the seconds of the servers with a number that is chosen; those
        of the service's process are one more. Without a phase, of the whole run.
        """
        return [
            sum(
                seconds
                for each in ([phase] if phase else COLUMNS)
                for place, seconds in enumerate(cost[each])
                if choose(place)
            )
            for cost in self.costs
        ]

    def of_servers(self, phase: str | None = None) -> list[float]:
        return self.seconds(phase, lambda place: place < len(self.database.servers))

    def share_per_shard(self, phase: str | None = None) -> float:
        """The part of all servers' work that is done where shards are."""
        servers = self.database.servers
        of_nodes = self.seconds(
            phase, lambda place: place < len(servers) and servers[place].holds_shards
        )
        return median_ratio(of_nodes, self.of_servers(phase))


def measure(
    postgres: Postgres,
    data: Path,
    users: int,
    coordinators: Sequence[str],
    rounds: int,
    folder: Path,
) -> None:
    """Publish the tables. Raises Mismatch."""
    with ExitStack() as databases:
        enter = databases.enter_context
        plain = enter(plain_database(postgres, "nodes"))
        others = [enter(citus_database(each, "nodes")) for each in coordinators]
        _prove_broken([plain, *others], folder / "broken-nodes")
        with ExitStack() as services:
            sides = [
                Side(
                    database, way, services.enter_context(_service(database, data, way))
                )
                for database in (plain, *others)
                for way in (WAYS if database.is_distributed else WAYS[:1])
            ]
            _take_turns(sides, rounds)
    words = WORDS.format(
        experiments=f"{users * EXPERIMENTS_PER_USER:,}", users=users, rounds=rounds
    )
    parts = [f"Plain is {postgres.title}. {words}", _sums(sides, users)]
    parts += [_by_node(sides, users), PROVEN if others else ALONE]
    title = "What Citus costs, by phase and by node"
    keep("nodes", title, *parts)  # in case the rest fails
    parts += duplicates.measure(postgres, coordinators[-1:], rounds, folder)
    publish("nodes", title, *parts)


def _service(
    database: Database, data: Path, way: str
) -> AbstractContextManager[Service]:
    return serving(
        {
            "DATABASE_URL": database.conninfo,
            "DATA_DIR": str(data),
            "LOAD_THROUGH": way,
        }
    )


def _prove_broken(databases: Sequence[Database], folder: Path) -> None:
    """Raises Mismatch where a broken record is rejected on plain or Citus alone."""
    progress("the same records rejected?")
    write_broken(folder)
    plain = None
    for database in databases:
        for way in WAYS:
            with _service(database, folder, way) as service:
                service.trigger("?full=true")
                plain = plain or left(database)
                require_same(database, plain)


def _take_turns(sides: Sequence[Side], rounds: int) -> None:
    """A first round warms up; then each round is in another order. Raises Mismatch."""
    plain = None
    for round_number in range(rounds + 1):
        progress(f"round {round_number} of {rounds}" if round_number else "warm-up")
        first = round_number % len(sides) if round_number else 0
        for side in [*sides[first:], *sides[:first]]:
            costs = costs_of_run(side.database, side.service)
            plain = plain or left(side.database)
            require_same(side.database, plain)
            if round_number:
                side.costs.append(costs)


def _sums(sides: Sequence[Side], users: int) -> str:
    """The table that sums up: overhead, and shares of the work that are per shard."""
    plain = sides[0]
    rows = []
    for side in sides:
        servers, all_seconds = side.of_servers(), side.seconds(None, lambda place: True)
        ratios = [
            median_ratio(servers, plain.of_servers()),
            median_ratio(all_seconds, plain.seconds(None, lambda place: True)),
        ]
        shares = [side.share_per_shard(phase) for phase in ("load", "build", None)]
        figures = [_per_million(servers, users), _per_million(all_seconds, users)]
        compared = side.database.is_distributed
        figures += map(number, [*ratios, *shares]) if compared else [""] * 5
        rows.append([*side.name, *figures])
    return table(HEAD, rows)


def _by_node(sides: Sequence[Side], users: int) -> str:
    """The table of seconds by phase and node."""
    rows = []
    for side in sides:
        names = [server.name for server in side.database.servers]
        for nth, name in enumerate([*names, "Python"]):
            is_it = nth.__eq__
            seconds = [side.seconds(phase, is_it) for phase in (*COLUMNS, None)]
            figures = [_per_million(each, users) for each in seconds]
            rows.append([*side.name, name, *figures])
        if len(names) > 1:
            seconds = [side.of_servers(phase) for phase in (*COLUMNS, None)]
            all_servers = [_per_million(each, users) for each in seconds]
            rows.append([*side.name, "all servers", *all_servers])
    return table(NODES_HEAD, rows)


def _per_million(seconds: Sequence[float], users: int) -> str:
    experiments = users * EXPERIMENTS_PER_USER
    return f"{statistics.median(seconds) / experiments * 1e6:.2f}"
