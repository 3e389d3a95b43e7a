"""Who takes part: the service, the peers, the floor. Each is one command to time.

Knows how to run them and to compare their rows; knows no rounds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memory import Peaks, watch
from postgres import Postgres
from service import Service

PEERS = ("duckdb", "polars", "pandas")

FILES = {
    "users": "a text, b text, c text, d text",
    "compounds": "a text, b text, c text",
    "user_experiments": "a text, b text, c text, d text",
}

COLUMNS = (
    "user_id, name, email, signup_date, total_experiments, avg_experiments, "
    "experiments_pct, most_common_compound_id, most_common_compound_name"
)


@dataclass(frozen=True)
class Contender:
    """A command. Its seconds are what it prints last, or else its own time.

    ``process`` is whose memory counts, None for the command's own. ``table`` holds its
    rows afterwards, None where it makes none.
    """

    name: str
    command: Sequence[str]
    prints_seconds: bool
    process: int | None
    table: str | None


class Mismatch(Exception):
    """Two contenders made different rows; the message says who and how many."""


def the_service(service: Service) -> Contender:
    """A curl of the trigger: what its caller waits for."""
    command = ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    url = f"{service.url}/trigger_etl?full=true"
    command += ["--write-out", "%{time_total}\n", url]
    return Contender("service", command, True, service.pid, "features")


def the_peer(name: str, data: Path, postgres: Postgres) -> Contender:
    """A script; its imports do not count."""
    script = Path(__file__).parent / "peers" / f"with_{name}.py"
    command = [sys.executable, str(script), str(data), postgres.conninfo, name]
    return Contender(name, command, True, None, f"bench.{name}")


def the_floor(data: Path, postgres: Postgres) -> Contender:
    """psql brings the files as they are into text tables, one after another."""
    commands = ["create schema if not exists bench"]
    for file, columns in FILES.items():
        table = f"bench.floor_{file}"
        path = str(data / f"{file}.csv").replace("'", "''")
        commands += [
            f"drop table if exists {table}",
            f"create unlogged table {table} ({columns})"
            " with (autovacuum_enabled = false)",
            f"\\copy {table} from '{path}' with (format csv, header)",
        ]
    quiet = "set client_min_messages = warning"
    return Contender("floor", postgres.psql(quiet, *commands), False, None, None)


def seconds(contender: Contender) -> float:
    """Run it, and nothing beside it."""
    began = time.perf_counter()
    done = subprocess.run(
        contender.command, stdout=subprocess.PIPE, text=True, check=True
    )
    took = time.perf_counter() - began
    return float(done.stdout.split()[-1]) if contender.prints_seconds else took


def watched(contender: Contender, postmaster: int | None) -> tuple[float, Peaks]:
    """Run it under watch: its seconds, a little more than without, and the peaks."""
    began = time.perf_counter()
    with subprocess.Popen(
        contender.command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            peaks = watch(process, contender.process or process.pid, postmaster)
        except BaseException:
            process.kill()
            raise
        took = time.perf_counter() - began
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, contender.name)
    return float(said.split()[-1]) if contender.prints_seconds else took, peaks


def compare(postgres: Postgres, one: Contender, other: Contender) -> None:
    """Raise Mismatch where their tables differ in any row; doubles to the last bit."""
    rows = [
        f"(select {COLUMNS} from {left.table} except all"
        f" select {COLUMNS} from {right.table})"
        for left, right in ((one, other), (other, one))
    ]
    different = postgres.value(
        f"select count(*) from ({rows[0]} union all {rows[1]}) as different"
    )
    if different:
        raise Mismatch(f"{different} rows differ: {one.name} and {other.name}")
