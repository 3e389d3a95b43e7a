"""Many runs and requests beside each other: nothing may grow without end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from threading import Event
from urllib.parse import urlsplit

from tests.support.harm.data import Data
from tests.support.harm.plot import plot
from tests.support.harm.report import Report, shortened
from tests.support.harm.service import Service, running

#: Requests for each run, by so many clients that keep their connections.
REQUESTS_A_RUN, CLIENTS = 100, 3

MEASUREMENTS = 100

PATHS = (
    *("/features?limit=20", "/features/7", "/features?order=name&limit=5"),
    *("/features?name=like.V*&select=user_id,name", "/features?format=csv"),
    *("/features?select=total_experiments,count()", "/features?facet=signup_date"),
    *("/runs?limit=5", "/runs/1", "/readyz", "/metrics", "/files", "/charts"),
    *("/features", "/openapi.json", "/", "/features?nothing=eq.1", "/nowhere"),
)

MEASURED = """
select
    (select count(*) from pg_stat_activity where datname = current_database()),
    (select sum(pg_total_relation_size(oid)) from pg_class
        where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r') / 1e6,
    (select sum(pg_total_relation_size(oid)) from pg_class
        where relnamespace <> 'pg_catalog'::regnamespace and relkind = 'r') / 1e6,
    (select sum(n_dead_tup) from pg_stat_all_tables),
    (select sum(size) from pg_ls_waldir()) / 1e6
"""

#: The most of the last quarter may be so many times the most of the half before it, and
#: so much more in its own unit: a checkpoint or an autovacuum may come then.
GROWTH = 1.1
SLACK = {
    "memory of the service, MB": 10.0,
    "private memory of Postgres, MB": 40.0,
    "connections to Postgres": 3.0,
    "descriptors of the service": 8.0,
    "files that are not empty": 100.0,
    "WAL, MB": 64.0,  # the least that it may have
    "catalog, MB": 3.0,
    "tables, MB": 3.0,
    "dead rows, thousands": 15.0,
}


def soak(folder: Path, rng: Random, times: int, report: Report) -> None:
    """So many runs, each with requests beside it, and what is used meanwhile."""
    measured: dict[str, list[float]] = defaultdict(list)
    with (
        running(folder, rng, report) as (service, data),
        _clients(service, rng, report),
    ):
        for number in report.rounds(times):
            _run(service, data, rng, report)
            if number % max(times // MEASUREMENTS, 1) == 0:
                for name, value in measure(service).items():
                    measured[name].append(value)
    for name, values in measured.items():
        quarter = max(len(values) // 4, 1)
        before, after = max(values[quarter:-quarter] or values), max(values[-quarter:])
        report.counts[f"{name} at the end"] = round(values[-1])
        bound = GROWTH * before + SLACK[name]
        report.require(after <= bound, "levels off", name, before, after)
    if report.plot:
        title = f"{times} runs and {report.counts['requests']} requests"
        plot(report.plot, title, measured)


def _run(service: Service, data: Data, rng: Random, report: Report) -> None:
    data.change()
    parameters = rng.choice(["", "", "", "?full=true", "?dry_run=true"])
    status, body = service.get(f"/trigger_etl{parameters}")
    report.require(status == 200, "a run succeeds", status, shortened(body))


@contextmanager
def _clients(service: Service, rng: Random, report: Report) -> Iterator[None]:
    """Clients that send requests while in here, as many as go with the runs."""
    stopped = Event()
    with ThreadPoolExecutor(CLIENTS) as threads:
        seeds = [rng.random() for _ in range(CLIENTS)]
        tasks = [
            threads.submit(_send, service.url, Random(seed), report, stopped)
            for seed in seeds
        ]
        try:
            yield
        finally:
            stopped.set()
        for task in tasks:
            task.result()


def _send(url: str, rng: Random, report: Report, stopped: Event) -> None:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    tags: dict[str, str] = {}
    while not stopped.is_set():
        if report.counts["requests"] > REQUESTS_A_RUN * (report.done + 1):
            stopped.wait(0.01)
            continue
        path = rng.choice(PATHS)
        headers = {"Accept-Encoding": rng.choice(["gzip", "identity"])}
        if path in tags and rng.random() < 0.3:
            headers["If-None-Match"] = tags[path]
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        tags[path] = answer.headers.get("ETag", "")
        report.counts["requests"] += 1
        report.require(
            answer.status < 500, "a request is answered", path, answer.status
        )
        if rng.random() < 0.01:
            connection.close()
    connection.close()


def measure(service: Service) -> Mapping[str, float]:
    """What the service and its Postgres use right now."""
    assert service.process is not None
    process = Path(f"/proc/{service.process.pid}")
    first = service.postmaster()
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    connections, catalog, tables, dead, wal = service.query(MEASURED)[0]
    values = (
        _memory(process),
        sum(_memory(Path(f"/proc/{child}")) for child in [str(first), *children]),
        connections,
        len(list((process / "fd").iterdir())),
        sum(1 for path in service.state.rglob("*") if _size(path)),
        *(wal, catalog, tables, dead / 1000),
    )
    return dict(zip(SLACK, map(float, values), strict=True))


def _size(path: Path) -> int:
    """Bytes of a file; 0 of one that is gone, or is empty until the next checkpoint."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _memory(process: Path) -> float:
    """Megabytes that are the process's own; 0 once it is gone."""
    with suppress(OSError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) / 1000
    return 0.0
