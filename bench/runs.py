"""Whole runs, side by side on one Postgres: seconds, ratios, memory.

A first round warms up, shows the memory and proves that all make the same rows. Then
all take turns, each round in another order, and ratios are taken round by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contenders import (
    Contender,
    Mismatch,
    compare,
    seconds,
    the_floor,
    the_peer,
    the_service,
    watched,
)
from make_data import EXPERIMENTS_PER_USER
from memory import Peaks
from postgres import Postgres
from report import number, progress, table
from service import serving

#: More users than this are for the service and the floor alone.
MOST_USERS_FOR_PEERS = 1_000_000

#: From so many users on pandas runs once, its first time counts: it takes minutes.
USERS_FOR_ONE_PANDAS = 50_000

#: Who is meant by the best peer.
STRONG = ("duckdb", "polars")

HEAD = (
    *("users", "shape", "who", "seconds", "service ÷ it", "s per million experiments"),
    *("process MB", "backends MB"),
)


@dataclass
class Result:
    """What was seen of one contender; seconds in the order of rounds."""

    contender: Contender
    peaks: Peaks
    seconds: list[float] = field(default_factory=list)
    once: bool = False


def whole_runs(
    postgres: Postgres, data: Path, users: int, peers: Sequence[str], rounds: int
) -> dict[str, Result]:
    """The results by contender, on one set of data. Raises Mismatch."""
    peers = [] if users > MOST_USERS_FOR_PEERS else peers
    with serving({**postgres.environ, "DATA_DIR": str(data)}) as service:
        ours = the_service(service)
        others = [the_peer(name, data, postgres) for name in peers]
        results: dict[str, Result] = {}
        for contender in (ours, *others, the_floor(data, postgres)):
            once = contender.name == "pandas" and users >= USERS_FOR_ONE_PANDAS
            progress(f"{data.name}: {contender.name}, warm-up and memory")
            postgres.settle()
            first, peaks = watched(contender, postgres.postmaster)
            results[contender.name] = Result(contender, peaks, once=once)
            if once:
                results[contender.name].seconds.append(first)
            if contender in others:
                compare(postgres, ours, contender)
        turns = [result for result in results.values() if not result.once]
        for round_number in range(rounds):
            progress(f"{data.name}: round {round_number + 1} of {rounds}")
            first_turn = round_number % len(turns)
            for result in turns[first_turn:] + turns[:first_turn]:
                postgres.settle()
                result.seconds.append(seconds(result.contender))
        for contender in others:
            compare(postgres, ours, contender)
    return results


def ratio(ours: Result, other: Result) -> float:
    """How many times another's seconds the service takes: the median of rounds."""
    if other.once:
        return statistics.median(ours.seconds) / other.seconds[0]
    return median_ratio(ours.seconds, other.seconds)


def to_best(results: dict[str, Result]) -> float | None:
    """The same to the quickest of the strong peers in each round."""
    strong = [results[name].seconds for name in STRONG if name in results]
    if not strong:
        return None
    best = [min(each) for each in zip(*strong, strict=True)]
    return median_ratio(results["service"].seconds, best)


def median_ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    ratios = [mine / its for mine, its in zip(ours, others, strict=True)]
    return statistics.median(ratios)


def rows_of(users: int, shape: str, results: dict[str, Result]) -> list[list[str]]:
    """The lines of the table for one set of data."""
    ours = results["service"]
    rows = []
    for result in results.values():
        median = statistics.median(result.seconds)
        per_million = median / (users * EXPERIMENTS_PER_USER / 1e6)
        rows.append(
            [
                f"{users:,}",
                shape,
                result.contender.name + (" (once)" if result.once else ""),
                number(median),
                "" if result is ours else number(ratio(ours, result)),
                number(per_million),
                number(result.peaks.process),
                number(result.peaks.backends),
            ]
        )
    return rows


def goals(users: int, shape: str, results: dict[str, Result]) -> list[str]:
    """The line that sums up: ratios of the service, and of memory, to the others'."""
    ours = results["service"]
    strong = [results[name].peaks.process for name in STRONG if name in results]
    leaner = min((peak for peak in strong if peak is not None), default=None)
    backends = ours.peaks.backends
    share = backends / leaner if backends is not None and leaner else None
    return [
        f"{users:,}",
        shape,
        number(to_best(results)),
        number(ratio(ours, results["floor"])),
        number(1 / ratio(ours, results["pandas"]))
        if "pandas" in results
        else number(None),
        number(ours.peaks.process),
        number(share),
    ]


GOALS_HEAD = (
    *("users", "shape", "÷ best of DuckDB and Polars", "÷ floor", "pandas ÷ service"),
    *("server MB", "backends ÷ leaner peer"),
)


def tables(lines: list[list[str]], sums: list[list[str]]) -> list[str]:
    """Both tables, the short one first."""
    return [table(GOALS_HEAD, sums), table(HEAD, lines)]


__all__ = ["Mismatch", "goals", "rows_of", "tables", "whole_runs"]
