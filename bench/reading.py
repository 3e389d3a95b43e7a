"""How fast ``features`` is read, each way beside what the machine can do at best.

All rows beside psql's ``\\copy``, a page beside pgbench, a row and a 304 beside a
handler that returns a constant. What the service does not offer yet is left out.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from load import CONNECTIONS, client, rate
from memory import peak_megabytes
from postgres import Postgres
from report import number, progress, publish, table
from service import Service, serving

from etl.postgres import folders

#: Rounds that count, after one that warms up; seconds of load in each.
ROUNDS, SECONDS = 3, 3

ALL_JSON = "select row_to_json(features) from features order by user_id"
ALL_CSV = "select * from features order by user_id"
PAGE = (
    "select row_to_json(page)::text from"
    " (select * from features order by user_id limit 100) as page;"
)

HEAD = ("what", "service", "beside", "rate of that", "service ÷ that")


@dataclass(frozen=True)
class Pair:
    """Two ways to get the same: each gives a rate in ``unit``."""

    what: str
    ours: Callable[[], float]
    beside: str
    theirs: Callable[[], float]
    unit: str


def measure(setting: str, postgres: Postgres, data: Path, users: int) -> None:
    """Publish one table."""
    with serving({**postgres.environ, "DATA_DIR": str(data)}) as service:
        progress(f"{users:,} rows to be read")
        record = service.trigger()
        if record["state"] != "succeeded":
            raise RuntimeError(record["error"])
        before = peak_megabytes(service.pid)
        pairs, missing = _all_rows(service, postgres, users)
        rows = [_row(pair, postgres) for pair in pairs]
        after = peak_megabytes(service.pid)
        key = f"{service.url}/features/{users // 2}"
        with urllib.request.urlopen(key) as answer:
            body = answer.read().decode()
        constant = Path(__file__).resolve().parent / "constant.py"
        with serving({"BODY": body}, constant) as plain:
            pairs, more_missing = _single_answers(service, postgres, key, plain.url)
            rows += [_row(pair, postgres) for pair in pairs]
    notes = [
        f"Medians of {ROUNDS} rounds; ratios taken round by round. Load by {client()}, "
        f"{CONNECTIONS} connections.",
        f"Server: {number(before)} MB at most before all rows were read, "
        f"{number(after)} MB after.",
        *(f"Left out, for the service has none yet: {one}." for one in missing),
        *(f"Left out, for the service has none yet: {one}." for one in more_missing),
    ]
    title = f"Reading {users:,} rows on {postgres.title}"
    publish(f"reading-{setting}", title, table(HEAD, rows), "\n".join(notes))


def _row(pair: Pair, postgres: Postgres) -> list[str]:
    progress(pair.what)
    postgres.settle()
    rounds = [(pair.ours(), pair.theirs()) for _ in range(ROUNDS + 1)][1:]
    ours, theirs = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    share = statistics.median(mine / its for mine, its in rounds)
    return [
        pair.what,
        f"{number(ours)} {pair.unit}",
        pair.beside,
        f"{number(theirs)} {pair.unit}",
        number(share),
    ]


def _all_rows(
    service: Service, postgres: Postgres, users: int
) -> tuple[list[Pair], list[str]]:
    def by_curl(query: str) -> float:
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--output",
            "/dev/null",
        ]
        command += ["--write-out", "%{time_total}", f"{service.url}/features{query}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return users / float(done.stdout)

    def by_psql(query: str, options: str) -> float:
        command = postgres.psql(f"\\copy ({query}) to stdout {options}")
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return users / (time.perf_counter() - began)

    unit, psql = "rows/s", "`psql \\copy` of the same"
    json = Pair(
        "all rows as JSON",
        lambda: by_curl(""),
        psql,
        lambda: by_psql(ALL_JSON, ""),
        unit,
    )
    if not _offers(f"{service.url}/features?format=csv"):
        return [json], ["`GET /features?format=csv`"]
    csv = Pair(
        "all rows as CSV",
        lambda: by_curl("?format=csv"),
        psql,
        lambda: by_psql(ALL_CSV, "with (format csv, header)"),
        unit,
    )
    return [json, csv], []


def _single_answers(
    service: Service, postgres: Postgres, key: str, constant: str
) -> tuple[list[Pair], list[str]]:
    page = f"{service.url}/features?limit=100"
    unit, handler = "requests/s", "a handler that returns a constant"
    missing = []
    pairs = [
        Pair(
            "one row by its key",
            lambda: rate(key, SECONDS),
            handler,
            lambda: rate(constant, SECONDS),
            unit,
        )
    ]
    tagged = next(((url, tag) for url in (key, page) if (tag := _etag(url))), None)
    if tagged is None:
        missing.append("an `ETag`, so no 304")
    else:
        url, tag = tagged
        pairs.append(
            Pair(
                "a 304",
                lambda: rate(url, SECONDS, {"If-None-Match": tag}),
                handler,
                lambda: rate(constant, SECONDS),
                unit,
            )
        )
    if not _offers(page):
        return pairs, [*missing, "`GET /features?limit=100`"]
    paged = Pair(
        "a page of 100 rows",
        lambda: rate(page, SECONDS),
        "pgbench with the same SQL",
        lambda: _pgbench(postgres),
        unit,
    )
    return [*pairs, paged], missing


def _pgbench(postgres: Postgres) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PAGE)
        script.flush()
        program = str(folders.client_binaries() / "pgbench")
        command = [program, "--no-vacuum", "--protocol", "prepared", "--jobs", "1"]
        command += ["--client", str(CONNECTIONS), "--time", str(SECONDS)]
        command += ["--file", script.name, postgres.conninfo]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(re.findall(r"tps = ([\d.]+)", done.stdout)[0])


def _offers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            answer.read(1)
    except urllib.error.HTTPError as refused:
        if refused.code >= 500:
            raise
        return False
    return True


def _etag(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url) as answer:
            return str(tag) if (tag := answer.headers["ETag"]) else None
    except urllib.error.HTTPError:
        return None
