"""How long a warm ``/trigger_etl`` takes on the shipped data, and the memory of it.

Starts a server of its own on the embedded Postgres, in a folder that goes with it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from serving import peak_megabytes, serving

PROJECT = Path(__file__).resolve().parent.parent

#: Triggers that are not counted, and those that are.
WARM_UP, COUNTED = 10, 50


def main() -> None:
    """Print the figures as one line of a table."""
    with tempfile.TemporaryDirectory(prefix="features-etl-bench-") as folder:
        Path(folder).chmod(0o755)
        state = {"STATE_DIR": f"{folder}/state"}
        with serving(PROJECT / "server.py", state) as (url, pid):
            milliseconds = [_trigger(url) for _ in range(WARM_UP + COUNTED)][WARM_UP:]
            memory = peak_megabytes(pid)
    print("| warm /trigger_etl, shipped data | median ms | least | most | server MB |")
    print("|---|---|---|---|---|")
    median, least, most = (
        f"{value:.1f}"
        for value in (
            statistics.median(milliseconds),
            min(milliseconds),
            max(milliseconds),
        )
    )
    print(f"| {COUNTED} runs | {median} | {least} | {most} | {memory:.0f} |")


def _trigger(url: str) -> float:
    """Milliseconds of one trigger, as its caller sees it."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/trigger_etl") as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
