"""What bad records cost, as ratios to clean files on the same machine in one go.

``rejects.py USERS``: ten experiments a user. Servers of its own on embedded Postgres,
one for each variant, take turns; the medians of their runs are compared. ``unchecked``
is the same service without rules and without a look at the bytes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from serving import peak_megabytes, serving

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
ROUNDS = 5

#: What becomes of an experiment, in turn: a wrong number of fields, a bad number, a bad
#: list, a quote in a value, an empty key.
BREAKAGES: list[Callable[[str], str]] = [
    lambda line: line.rsplit(",", 1)[0] + "\n",
    lambda line: "x" + line,
    lambda line: line.replace(";", ":") if ";" in line else "x" + line,
    lambda line: line.replace("\n", '"\n'),
    lambda line: line[line.index(",") :],
]


def main() -> None:
    """Print one table."""
    users = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="features-etl-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        clean = folder / "clean"
        make = [sys.executable, str(HERE / "make_data.py"), str(clean), str(users)]
        subprocess.run([*make, "few"], check=True)
        records = users * 10
        data = {
            "unchecked": clean,
            "clean": clean,
            "one bad record": _broken(clean, folder / "one", {records // 2}),
            "1% bad": _broken(clean, folder / "some", set(range(50, records, 100))),
            "100% bad": _broken(clean, folder / "all", set(range(records))),
        }
        with ExitStack() as servers:
            urls = {
                variant: servers.enter_context(_server(folder, variant, files))
                for variant, files in data.items()
            }
            seconds: dict[str, list[float]] = {variant: [] for variant in urls}
            for _ in range(ROUNDS + 1):
                for variant, (url, _) in urls.items():
                    seconds[variant].append(_run(url))
            memory = {
                variant: peak_megabytes(pid) for variant, (_, pid) in urls.items()
            }
    base = statistics.median(seconds["clean"][1:])
    print(f"{records:,} experiments, medians of {ROUNDS} runs\n")
    print("| variant | seconds | ratio to clean | server MB |")
    print("|---|---|---|---|")
    for variant, all_seconds in seconds.items():
        median = statistics.median(all_seconds[1:])
        ratio = median / base
        print(f"| {variant} | {median:.2f} | {ratio:.2f} | {memory[variant]:.0f} |")


def _broken(clean: Path, folder: Path, numbers: set[int]) -> Path:
    """A copy of the data where the experiments with these numbers are broken."""
    folder.mkdir()
    for name in ("users.csv", "compounds.csv"):
        (folder / name).symlink_to(clean / name)
    target = folder / "user_experiments.csv"
    with (clean / target.name).open() as source, target.open("w") as file:
        file.write(next(source))
        file.writelines(_lines(source, numbers))
    return folder


def _lines(source: Iterator[str], numbers: set[int]) -> Iterator[str]:
    for number, line in enumerate(source):
        if number in numbers:
            line = BREAKAGES[number // 100 % len(BREAKAGES)](line)
        yield line


def _server(
    folder: Path, variant: str, data: Path
) -> AbstractContextManager[tuple[str, int]]:
    """A server for one variant: its URL and its process."""
    program, sql_dir = PROJECT / "server.py", PROJECT / "sql"
    if variant == "unchecked":
        program = HERE / "unchecked.py"
        sql_dir = Path(shutil.copytree(sql_dir, folder / "sql"))
        shutil.rmtree(sql_dir / "clean")
        for number in ("040", "050", "060"):
            for check in (sql_dir / "check").glob(f"{number}_*.sql"):
                check.unlink()
    environ = {
        "PYTHONPATH": str(PROJECT),
        "STATE_DIR": str(folder / f"state {variant}"),
        "DATA_DIR": str(data),
        "SQL_DIR": str(sql_dir),
    }
    return serving(program, environ)


def _run(url: str) -> float:
    try:
        with urllib.request.urlopen(f"{url}/trigger_etl") as answer:
            outcome: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as refused:
        outcome = json.load(refused)
    assert outcome["run"], outcome
    return float(outcome["run"]["seconds"])


if __name__ == "__main__":
    main()
