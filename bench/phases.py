"""CPU seconds of one run, by phase, of each server and of the service's own process.

They are read whenever the run's events say that a phase begins.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

import cpu
import psycopg
from changes import FULL
from clusters import Database, Server
from contenders import Mismatch
from postgres import wait_until_idle
from service import Service

#: The phases by those that a run names: it checks while it publishes.
PHASES = {
    "load": "load",
    "clean": "clean",
    "build": "build",
    "check": "check, publish",
    "publish": "check, publish",
    "after": "after",
}

#: Seconds after which the service surely has begun to vacuum what a run has left.
BEFORE_VACUUM = 0.5

#: What a run left: all rows of features and all rejects to the last bit, in a line.
LEFT = """
select
    format(
        '%s rows with digest %s, ',
        count(*),
        sum(hashtextextended(features::text, 0))
    )
    || (
        select
            format(
                '%s rejects with digest %s',
                count(*),
                sum(
                    hashtextextended(
                        (to_jsonb(rejects) - '{run_id,id}'::text[])::text, 0
                    )
                )
            )
        from etl.rejects
        where run_id = (select max(id) from etl.runs)
    )
from features
"""

#: Seconds by phase, of each server and last of the service.
Costs = Mapping[str, Sequence[float]]


def costs_of_run(database: Database, service: Service) -> Costs:
    """Do everything once more, with nothing beside it."""
    database.settle()
    spent = {phase: [0.0] * (len(database.servers) + 1) for phase in PHASES.values()}
    before, last = PHASES["load"], _seconds(database, service)
    number = service.trigger(f"{FULL}&wait=false")["id"]
    for phase in _phases(service, number, database.servers):
        now = _seconds(database, service)
        spent[before] = [
            so_far + new - old
            for so_far, new, old in zip(spent[before], now, last, strict=True)
        ]
        before, last = PHASES[phase], now
    return spent


def left(database: Database) -> object:
    """What the last run of a database left."""
    return database.value(LEFT)


def require_same(database: Database, plain: object) -> None:
    """Raises Mismatch where the last run left another thing than one on plain."""
    if (found := left(database)) != plain:
        raise Mismatch(f"{database.title} has {found}, and plain Postgres {plain}")


def _phases(service: Service, number: int, servers: Sequence[Server]) -> Iterator[str]:
    """The phases of a run as they begin; the last one twice, for it ends, too."""
    with urllib.request.urlopen(f"{service.url}/runs/{number}/events") as events:
        for line in events:
            if not line.startswith(b"data: "):
                continue
            run = json.loads(line.removeprefix(b"data: "))
            if run["state"] == "running":
                yield run["phase"] or "load"
            elif run["state"] != "succeeded":
                raise RuntimeError(run["error"])
    yield "after"
    time.sleep(BEFORE_VACUUM)
    for server in servers:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            wait_until_idle(connection)
    yield "after"


def _seconds(database: Database, service: Service) -> list[float]:
    return [*database.seconds(), cpu.of_process(service.pid)]
