"""What a run costs after each kind of change, as a ratio to one that does everything.

Each turn begins with the same files and a run over them, so that the service keeps what
it can. Then a file changes, and the next run is measured. What it leaves must be what a
run from nothing leaves over the same files.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contenders import Contender, Mismatch, compare, seconds, the_peer, the_service
from edits import (
    COMPOUNDS_FILE,
    EXPERIMENTS_FILE,
    USERS_FILE,
    Files,
    prepare_files,
)
from make_data import EXPERIMENTS_PER_USER
from postgres import Postgres
from report import number, progress, table
from runs import MOST_USERS_FOR_PEERS, STRONG, median_ratio
from service import Service, serving
from warm import WARM_UP, repeat

USERS, ROUNDS = 1_000_000, 5

#: Requests on the shipped data that count, and the milliseconds that one may take.
REQUESTS, GOAL_MILLISECONDS = 30, 5

#: Has the service do everything, whatever it kept.
FULL = "?full=true"

HEAD = (
    *("experiments", "what changed", "seconds", "of them in the run", "÷ cold", "goal"),
    "÷ best of DuckDB and Polars",
)
SHIPPED_HEAD = ("requests", "median ms", "of them in the run", "goal")

#: What a run left, in a line: all rows of features to the last bit, and its rejects.
LEFT = """
select
    format(
        '%s rows with digest %s, %s rejects',
        count(*),
        sum(hashtextextended(features::text, 0)),
        (select count(*) from etl.rejects where run_id = {run_id})
    )
from features
"""


@dataclass
class Change:
    """What changes before a run is measured, and what was seen of such runs: seconds in
    the order of rounds, as the caller waits and as the run says. ``goal`` is a ratio to
    the cold run of the same round. ``proven`` is what a run from nothing leaves.
    """

    name: str
    file: str | None = None
    goal: float | None = None
    is_cold: bool = False
    seconds: list[float] = field(default_factory=list)
    run_seconds: list[float] = field(default_factory=list)
    proven: object = None


@dataclass
class Peer:
    """A script that does everything again, and its seconds in the order of rounds."""

    contender: Contender
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run's number, the seconds that its caller waited, and those that it says."""

    id: int
    wall: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What every turn needs. With the query ``cold`` a trigger does everything."""

    postgres: Postgres
    service: Service
    files: Files
    cold: str


def kinds_of_change() -> list[Change]:
    """The kinds of change, with nothing measured yet; the cold run is the last."""
    return [
        Change("nothing", goal=0.05),
        Change("a name in compounds.csv", COMPOUNDS_FILE, 0.35),
        Change("a user more in users.csv", USERS_FILE, 0.45),
        Change("1% more experiments, of users at random", EXPERIMENTS_FILE, 0.45),
        Change("everything (cold)", is_cold=True),
    ]


def after_changes(
    postgres: Postgres, first: Path, users: int, peers: Sequence[str], rounds: int
) -> list[list[str]]:
    """The lines of the table for one set of data. Raises Mismatch."""
    postgres = postgres.with_database(f"changes_{users}")
    with tempfile.TemporaryDirectory(prefix="features-etl-changes-") as folder:
        files = prepare_files(first, Path(folder), users)
        with serving({**postgres.environ, "DATA_DIR": str(files.folder)}) as service:
            bench = Bench(postgres, service, files, FULL)
            kinds = kinds_of_change()
            scripts = [
                Peer(the_peer(name, files.folder, postgres))
                for name in STRONG
                if name in peers and users <= MOST_USERS_FOR_PEERS
            ]
            progress(f"{users:,} users: every change once, and its proof")
            _warm_up(bench, kinds, scripts)
            turns: list[Change | Peer] = [*kinds, *scripts]
            for round_number in range(rounds):
                progress(f"{users:,} users: round {round_number + 1} of {rounds}")
                first_turn = round_number % len(turns)
                for turn in turns[first_turn:] + turns[:first_turn]:
                    _take(bench, turn)
    return _rows(users, kinds, scripts)


def _warm_up(bench: Bench, kinds: list[Change], scripts: list[Peer]) -> None:
    """Every turn once, uncounted, and what a run from nothing leaves after each.

    The files of a change are the same in every round, so one such run proves them all.
    """
    for change in kinds:
        bench.files.put(change.file)
        change.proven = _left(bench, _run(bench, bench.cold))
    for change in kinds:
        _take(bench, change)
        change.seconds.clear()
        change.run_seconds.clear()
    bench.files.put(EXPERIMENTS_FILE)
    _run(bench)
    for peer in scripts:
        seconds(peer.contender)
        compare(bench.postgres, the_service(bench.service), peer.contender)


def _take(bench: Bench, turn: Change | Peer) -> None:
    """Add the seconds of a turn. The peers read the files with more experiments."""
    if isinstance(turn, Peer):
        bench.files.put(EXPERIMENTS_FILE)
        bench.postgres.settle()
        turn.seconds.append(seconds(turn.contender))
        return
    bench.files.put()
    _run(bench)
    bench.files.put(turn.file)
    bench.postgres.settle()
    run = _run(bench, bench.cold if turn.is_cold else "")
    turn.seconds.append(run.wall)
    turn.run_seconds.append(run.seconds)
    left = _left(bench, run)
    if left != turn.proven:
        raise Mismatch(
            f"{turn.name}: a run left {left}, and one from nothing {turn.proven}"
        )


def _run(bench: Bench, query: str = "") -> Run:
    """A run by a trigger, which must succeed."""
    began = time.perf_counter()
    record = bench.service.trigger(query)
    wall = time.perf_counter() - began
    if record["state"] != "succeeded":
        raise RuntimeError(record["error"])
    return Run(int(record["id"]), wall, float(record["seconds"]))


def _left(bench: Bench, run: Run) -> object:
    """What the last run left. Nothing of it is in anybody's time."""
    return bench.postgres.value(LEFT.format(run_id=run.id))


def _rows(users: int, kinds: list[Change], scripts: list[Peer]) -> list[list[str]]:
    cold = next(change.seconds for change in kinds if change.is_cold)
    best = [min(each) for each in zip(*(peer.seconds for peer in scripts), strict=True)]
    experiments = f"{users * EXPERIMENTS_PER_USER:,}"
    rows = [
        [
            experiments,
            change.name,
            number(statistics.median(change.seconds)),
            number(statistics.median(change.run_seconds)),
            number(median_ratio(change.seconds, cold)),
            f"{change.goal:.2f}" if change.goal else "",
            number(median_ratio(change.seconds, best) if best else None),
        ]
        for change in kinds
    ]
    for peer in scripts:
        median = number(statistics.median(peer.seconds))
        share = number(median_ratio(peer.seconds, cold))
        name = f"{peer.contender.name} does everything"
        rows.append([experiments, name, median, "", share, "", ""])
    return rows


def shipped_unchanged(postgres: Postgres) -> str:
    """A table of requests in a row on the shipped data, which does not change."""
    progress("requests on the shipped data, unchanged")
    with serving(postgres.with_database("changes_shipped").environ) as service:
        walls, runs = repeat(service, WARM_UP + REQUESTS)
    medians = (statistics.median(each[WARM_UP:]) for each in (walls, runs))
    row = [str(REQUESTS), *map(number, medians), str(GOAL_MILLISECONDS)]
    return table(SHIPPED_HEAD, [row])
