"""The benchmarks: ``main.py --help``. Makes the data, runs the parts, keeps the tables.

Whatever ends it, the servers that it started end too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import changes
import nodes
import reading
import rejects
import warm
from broken import prove_rejects
from contenders import PEERS, Mismatch
from make_data import COMPOUNDS, make_data
from postgres import SETTINGS, Postgres, postgres_by_initdb
from report import keep, progress, publish, table
from runs import goals, rows_of, tables, whole_runs
from stopping import end_in_order

PARTS = ("warm", "runs", "changes", "reading", "rejects", "nodes")
SCALES = (1_000, 100_000, 1_000_000)
ROUNDS = 3


def main() -> int:
    """Returns the exit code: 0, or 1 where two sides made different rows."""
    options = _options()
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="features-etl-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres may run as another user
        if options.data is None:
            options.data = folder / "data"
        try:
            for setting in options.database:
                with SETTINGS[setting](folder) as postgres:
                    _parts(setting, postgres, folder, options)
            if "rejects" in options.parts:
                rejects.measure(folder, options.rejects_users)
            if "nodes" in options.parts:
                _nodes(folder, options)
        except Mismatch as mismatch:
            print(f"The benchmark stops: {mismatch}", file=sys.stderr)
            return 1
    return 0


def _parts(
    setting: str, postgres: Postgres, folder: Path, options: argparse.Namespace
) -> None:
    if "warm" in options.parts:
        warm.measure(setting, postgres)
    if "runs" in options.parts:
        _runs(setting, postgres, folder, options)
    if "changes" in options.parts:
        _changes(setting, postgres, folder, options)
    if "reading" in options.parts:
        users = options.reading_users
        data = _data(options.data, users, "few")
        reading.measure(setting, postgres, data, users)
        _drop(data, folder)


def _runs(
    setting: str, postgres: Postgres, folder: Path, options: argparse.Namespace
) -> None:
    proof = prove_rejects(postgres, folder / f"broken-{setting}", options.peers)
    lines, sums = [], []
    count = options.rounds or ROUNDS
    rounds = f"Medians of {count} rounds; ratios taken round by round."
    kept = (f"runs-{setting}", f"Whole runs on {postgres.title}", rounds)
    for users in options.users or SCALES:
        for shape in options.shapes:
            data = _data(options.data, users, shape)
            results = whole_runs(postgres, data, users, options.peers, count)
            lines += rows_of(users, shape, results)
            sums.append(goals(users, shape, results))
            _drop(data, folder)
            keep(*kept, *tables(lines, sums), proof)  # in case a later one fails
    publish(*kept, *tables(lines, sums), proof)


def _changes(
    setting: str, postgres: Postgres, folder: Path, options: argparse.Namespace
) -> None:
    count = options.rounds or changes.ROUNDS
    shipped = changes.shipped_unchanged(postgres)
    lines = []
    for users in options.users or [changes.USERS]:
        data = _data(options.data, users, "few")
        lines += changes.after_changes(postgres, data, users, options.peers, count)
        _drop(data, folder)
    publish(
        f"changes-{setting}",
        f"Runs after changes on {postgres.title}",
        f"Medians of {count} rounds; ratios taken round by round.",
        table(changes.HEAD, lines),
        "The shipped data, warm, unchanged; milliseconds:",
        shipped,
    )


def _nodes(folder: Path, options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    for users in options.users or [nodes.USERS]:
        data = _data(options.data, users, "few")
        with postgres_by_initdb(folder) as postgres:
            nodes.measure(postgres, data, users, options.citus, count, folder)
        _drop(data, folder)


def _data(folder: Path, users: int, shape: str) -> Path:
    """Data of so many users, made where it is not there yet."""
    data = folder / f"{shape}-{users}"
    done = data / "complete"
    if not done.exists():
        progress(f"making the data of {users:,} users, {shape}")
        make_data(data, users, shape)
        done.touch()
    return data


def _drop(data: Path, folder: Path) -> None:
    """Data of ours go as soon as they were used, for they are large."""
    if data.is_relative_to(folder):
        shutil.rmtree(data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh",
        description="Measures the service beside DuckDB, Polars, pandas and psql.",
        epilog="Lists are separated by commas.",
    )
    add = parser.add_argument
    add("--parts", type=_some_of(PARTS), default=list(PARTS), help=", ".join(PARTS))
    add(
        "--users",
        type=lambda text: [int(number) for number in text.split(",")],
        help=f"scales of whole runs: {','.join(map(str, SCALES))} without, and of "
        f"changes, {changes.USERS}, of nodes, {nodes.USERS}; more than a million are "
        "for the service and the floor alone",
    )
    add("--shapes", type=_some_of(COMPOUNDS), default=list(COMPOUNDS), help="few, many")
    add("--peers", type=_some_of(PEERS), default=list(PEERS), help=", ".join(PEERS))
    add(
        "--rounds",
        type=int,
        help=f"rounds that count, after one that warms: {ROUNDS} without, "
        f"{changes.ROUNDS} of changes",
    )
    add(
        "--database",
        type=_some_of(SETTINGS),
        default=["embedded"],
        help="embedded, stock (Docker's postgres:18, or one by initdb)",
    )
    add(
        "--citus",
        type=lambda text: text.split(","),
        default=[],
        help="coordinators of clusters on this machine, by their URLs, for nodes",
    )
    add("--reading-users", type=int, default=1_000_000, help="rows that are read")
    add("--rejects-users", type=int, default=100_000, help="users, ten records each")
    add("--data", type=Path, help="a folder to keep the data in for another time")
    return parser.parse_args()


def _some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    names = list(known)

    def read(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        if wrong := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"no {wrong[0]!r}: {', '.join(names)}")
        return chosen

    return read


if __name__ == "__main__":
    sys.exit(main())
