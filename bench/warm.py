"""How long a warm ``/trigger_etl`` takes on the shipped data, and the memory of it."""

from __future__ import annotations

import statistics
import time

from memory import peak_megabytes
from postgres import Postgres
from report import number, progress, publish, table
from service import serving

#: Triggers that are not counted, and those that are.
WARM_UP, COUNTED = 10, 50

HEAD = ("runs", "median ms", "least", "most", "server MB")


def measure(setting: str, postgres: Postgres) -> None:
    """Publish one table."""
    progress("a warm trigger on the shipped data")
    milliseconds = []
    with serving(postgres.environ) as service:
        for _ in range(WARM_UP + COUNTED):
            began = time.perf_counter()
            record = service.trigger()
            milliseconds.append((time.perf_counter() - began) * 1000)
            if record["state"] != "succeeded":
                raise RuntimeError(record["error"])
        memory = peak_megabytes(service.pid)
    counted = milliseconds[WARM_UP:]
    figures = (statistics.median(counted), min(counted), max(counted), memory)
    row = [str(COUNTED), *map(number, figures)]
    title = f"A warm trigger on the shipped data, on {postgres.title}"
    publish(f"warm-{setting}", title, table(HEAD, [row]))
