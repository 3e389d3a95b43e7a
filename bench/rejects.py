"""What bad records cost, as ratios to clean files on the same machine in one go.

Ten experiments a user. A service for each variant, each with a database of its own on
one embedded Postgres, take turns, each round in another order. ``unchecked`` is the
same service without rules and without matching bytes before COPY. Where a few
percent are told apart, there are more rounds.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from make_data import make_data
from memory import peak_megabytes
from postgres import Postgres, embedded_postgres
from report import number, progress, publish, table
from service import PROGRAM, Service, serving

from etl.settings import PROJECT

#: The variants that are close to each other.
CLOSE = ("unchecked", "clean", "one bad record", "one repeated key", "one unknown user")

#: Of all variants, and of those.
ROUNDS, MORE_ROUNDS = 5, 15

HEAD = ("variant", "seconds", "ratio to clean", "server MB")

#: What becomes of an experiment, in turn: a wrong number of fields, a bad number, a bad
#: list, a quote in a value, an empty key.
BREAKAGES: list[Callable[[str], str]] = [
    lambda line: line.rsplit(",", 1)[0] + "\n",
    lambda line: "x" + line,
    lambda line: line.replace(";", ":") if ";" in line else "x" + line,
    lambda line: line.replace("\n", '"\n'),
    lambda line: line[line.index(",") :],
]

#: An experiment with the number of an earlier one, or of a user that nobody knows.
REPEATED: list[Callable[[str], str]] = [
    lambda line: re.sub("[0-9]+", lambda key: str(int(key[0]) - 7), line, count=1)
]
UNKNOWN: list[Callable[[str], str]] = [
    lambda line: re.sub(r",\s*", r"\g<0>99999", line, count=1)
]


def measure(folder: Path, users: int) -> None:
    """Publish one table."""
    progress("what bad records cost")
    clean = folder / "clean"
    make_data(clean, users, "few")
    records = users * 10
    some = set(range(50, records, 100))
    data = {
        "unchecked": clean,
        "clean": clean,
        "one bad record": broken_copy(clean, folder / "one", {records // 2}),
        "one repeated key": broken_copy(
            clean, folder / "repeated", {records // 2}, REPEATED
        ),
        "one unknown user": broken_copy(
            clean, folder / "unknown", {records // 2}, UNKNOWN
        ),
        "1% bad": broken_copy(clean, folder / "some", some),
        "1% repeated keys": broken_copy(
            clean, folder / "some repeated", some, REPEATED
        ),
        "1% unknown users": broken_copy(clean, folder / "some unknown", some, UNKNOWN),
        "100% bad": broken_copy(clean, folder / "all", set(range(records))),
    }
    seconds: dict[str, list[float]] = {variant: [] for variant in data}
    with ExitStack() as servers:
        postgres = servers.enter_context(embedded_postgres(folder))
        services = {
            variant: servers.enter_context(_service(folder, postgres, variant, files))
            for variant, files in data.items()
        }
        for round_number in range(MORE_ROUNDS + 1):
            progress(
                f"round {round_number} of {MORE_ROUNDS}" if round_number else "warm-up"
            )
            turns = [*data] if round_number <= ROUNDS else CLOSE
            for variant in random.Random(round_number).sample(turns, len(turns)):
                postgres.settle()
                record = services[variant].trigger("?full=true")
                seconds[variant].append(float(record["seconds"]))
        memory = {
            variant: peak_megabytes(service.pid)
            for variant, service in services.items()
        }
    rows = []
    for variant, all_seconds in seconds.items():
        counted, base = all_seconds[1:], seconds["clean"][1:]
        ratios = [mine / its for mine, its in zip(counted, base, strict=False)]
        figures = (statistics.median(counted), statistics.median(ratios))
        rows.append([variant, *map(number, figures), number(memory[variant])])
    words = (
        f"{records:,} experiments, medians of {ROUNDS} rounds; {MORE_ROUNDS} without a "
        "bad record and with one."
    )
    publish("rejects", "What bad records cost", words, table(HEAD, rows))


def broken_copy(
    clean: Path,
    folder: Path,
    numbers: set[int],
    breakages: Sequence[Callable[[str], str]] = BREAKAGES,
) -> Path:
    """A copy of the data where the experiments with these numbers are broken."""
    folder.mkdir()
    for name in ("users.csv", "compounds.csv"):
        (folder / name).symlink_to(clean / name)
    target = folder / "user_experiments.csv"
    with (clean / target.name).open() as source, target.open("w") as file:
        file.write(next(source))
        file.writelines(_lines(source, numbers, breakages))
    return folder


def _lines(
    source: Iterator[str],
    numbers: set[int],
    breakages: Sequence[Callable[[str], str]],
) -> Iterator[str]:
    for place, line in enumerate(source):
        if place in numbers:
            yield breakages[place // 100 % len(breakages)](line)
        else:
            yield line


def _service(
    folder: Path, postgres: Postgres, variant: str, data: Path
) -> AbstractContextManager[Service]:
    """A service for one variant."""
    program, sql_dir = PROGRAM, PROJECT / "sql"
    if variant == "unchecked":
        program = Path(__file__).resolve().parent / "unchecked.py"
        sql_dir = Path(shutil.copytree(sql_dir, folder / "sql"))
        shutil.rmtree(sql_dir / "clean")
        for prefix in ("040", "050", "060"):
            for check in (sql_dir / "check").glob(f"{prefix}_*.sql"):
                check.unlink()
    environ = {
        "PYTHONPATH": str(PROJECT),
        "DATABASE_URL": postgres.new_database(variant),
        "DATA_DIR": str(data),
        "SQL_DIR": str(sql_dir),
    }
    return serving(environ, program)
