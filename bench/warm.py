"""How long a warm ``/trigger_etl`` takes on the shipped data, and the memory of it."""

from __future__ import annotations

import statistics
import time

from memory import peak_megabytes
from postgres import Postgres
from report import number, progress, publish, table
from service import Service, serving

#: Triggers that are not counted, and those that are.
WARM_UP, COUNTED = 10, 50

HEAD = ("runs", "median ms", "least", "most", "server MB")


def measure(setting: str, postgres: Postgres) -> None:
    """Publish one table."""
    progress("a warm trigger on the shipped data")
    with serving(postgres.environ) as service:
        milliseconds, _ = repeat(service, WARM_UP + COUNTED, "?full=true")
        memory = peak_megabytes(service.pid)
    counted = milliseconds[WARM_UP:]
    figures = (statistics.median(counted), min(counted), max(counted), memory)
    row = [str(COUNTED), *map(number, figures)]
    title = f"A warm trigger on the shipped data, on {postgres.title}"
    publish(f"warm-{setting}", title, table(HEAD, [row]))


def repeat(
    service: Service, times: int, query: str = ""
) -> tuple[list[float], list[float]]:
    """Milliseconds of triggers in a row: as the caller waits, and as the run says."""
    walls, runs = [], []
    for _ in range(times):
        began = time.perf_counter()
        record = service.trigger(query)
        walls.append((time.perf_counter() - began) * 1000)
        runs.append(float(record["seconds"]) * 1000)
        if record["state"] != "succeeded":
            raise RuntimeError(record["error"])
    return walls, runs
