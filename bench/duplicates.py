"""What duplicates of a key cost by which Citus does not distribute: the check that
finds them, the rule that rejects them, and a run with them, by the number of shards.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import psycopg
from clusters import Database, citus_database, plain_database
from make_data import EXPERIMENTS_PER_USER, make_data
from phases import costs_of_run, left, require_same
from postgres import Postgres
from rejects import REPEATED, broken_copy
from report import progress, table
from service import serving

from etl.postgres.pools import RUN_SETTINGS
from etl.settings import PROJECT

USERS, SHARDS = 100_000, (8, 32, 64)

#: The files that run as statements by themselves, each so often that /proc, which
#: counts hundredths of a second, shows what they take.
FILES = (
    "check/060_experiment_ids_are_unique.sql",
    "clean/040_experiment_ids_are_unique.sql",
)
TIMES = 3

#: What adds duplicates to what a run without any has left in staging.
ADD: Mapping[str, str] = {
    "none": "false",
    "one": "experiment_id = 100",
    "1%": "experiment_id % 100 = 0 and experiment_id > 100",
}
INSERT = """
insert into staging.user_experiments (
    experiment_id, user_id, experiment_compound_ids, experiment_run_time
)
select experiment_id, user_id, experiment_compound_ids, experiment_run_time
from staging.user_experiments
where
"""

HEAD = (
    *("database", "duplicates"),
    *("check/060: coordinator", "workers", "clean/040: coordinator", "workers"),
    *("the run more: coordinator", "workers", "Python"),
)
WORDS = """\
Duplicates of `experiment_id`, by which no table is distributed; {experiments} \
experiments. Core-seconds per million of them: of the two files as statements by \
themselves, and what a whole run takes more than one without duplicates. Plain \
Postgres has one server, here under coordinator."""

#: Seconds of the coordinator and of the workers together; of a run, of Python too.
Costs = Sequence[float]


def measure(
    postgres: Postgres, coordinators: Sequence[str], rounds: int, folder: Path
) -> list[str]:
    """The words and the table. Raises Mismatch."""
    records = USERS * EXPERIMENTS_PER_USER
    clean = folder / "without-duplicates"
    make_data(clean, USERS, "few")
    some = set(range(50, records, 100))
    data = {
        "none": clean,
        "one": broken_copy(clean, folder / "one-duplicate", {records // 2}, REPEATED),
        "1%": broken_copy(clean, folder / "some-duplicates", some, REPEATED),
    }
    rows: list[list[str]] = []
    plain: dict[str, object] = {}
    for new_database in _databases(postgres, coordinators):
        with new_database as database:
            progress(f"duplicates: {database.title}")
            with_files = _files(database, clean, rounds)
            runs = _runs(database, data, plain, rounds)
            for kind in data:
                figures = [*with_files[kind][0], *with_files[kind][1]]
                more = [
                    mine - its
                    for mine, its in zip(runs[kind], runs["none"], strict=True)
                ]
                cells = [*map(_cell, figures)]
                cells += map(_cell, more) if kind != "none" else [""] * 3
                rows.append([database.title, kind, *cells])
    return [WORDS.format(experiments=f"{records:,}"), table(HEAD, rows)]


def _databases(
    postgres: Postgres, coordinators: Sequence[str]
) -> list[AbstractContextManager[Database]]:
    return [
        plain_database(postgres, "duplicates"),
        *(
            citus_database(each, f"duplicates_{shards}", shards)
            for each in coordinators
            for shards in SHARDS
        ),
    ]


def _files(database: Database, data: Path, rounds: int) -> dict[str, list[Costs]]:
    """The median seconds of each file, by kind of duplicates."""
    environ = {"DATABASE_URL": database.conninfo, "DATA_DIR": str(data)}
    with serving(environ) as service:
        service.trigger("?full=true")
    texts = [(PROJECT / "sql" / file).read_bytes() for file in FILES]
    costs: dict[str, list[Costs]] = {}
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for name, value in RUN_SETTINGS.items():
            connection.execute("select set_config(%s, %s, false)", [name, value])
        for kind, condition in ADD.items():
            connection.execute(f"{INSERT} {condition}".encode())
            costs[kind] = []
            for text in texts:
                connection.execute(text)
                seen = []
                for _ in range(rounds):
                    before = database.seconds()
                    for _ in range(TIMES):
                        connection.execute(text)
                    after = database.seconds()
                    spent = zip(after, before, strict=True)
                    seen.append(_halves([(new - old) / TIMES for new, old in spent]))
                costs[kind].append(_medians(seen))
    return costs


def _runs(
    database: Database,
    data: Mapping[str, Path],
    plain: dict[str, object],
    rounds: int,
) -> dict[str, Costs]:
    """The median seconds of a run, by kind of duplicates. Raises Mismatch."""
    seen: dict[str, list[Costs]] = {kind: [] for kind in data}
    with ExitStack() as services:
        environ = {"DATABASE_URL": database.conninfo}
        by_kind = {
            kind: services.enter_context(serving({**environ, "DATA_DIR": str(files)}))
            for kind, files in data.items()
        }
        for round_number in range(rounds + 1):
            for kind, service in by_kind.items():
                by_phase = costs_of_run(database, service)
                require_same(database, plain.setdefault(kind, left(database)))
                *servers, python = map(sum, zip(*by_phase.values(), strict=True))
                if round_number:
                    seen[kind].append([*_halves(servers), python])
    return {kind: _medians(costs) for kind, costs in seen.items()}


def _halves(seconds: Sequence[float]) -> list[float]:
    return [seconds[0], sum(seconds[1:])]


def _medians(rounds: Sequence[Costs]) -> Costs:
    return [statistics.median(each) for each in zip(*rounds, strict=True)]


def _cell(seconds: float) -> str:
    return f"{seconds / (USERS * EXPERIMENTS_PER_USER) * 1e6:.2f}"
