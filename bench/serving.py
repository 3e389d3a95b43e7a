"""A server of its own for a benchmark, and the most memory that it took."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(program: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Run ``program`` on a free port while in here: its URL and its process."""
    server = subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "PORT": "0", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1], server.pid
    finally:
        server.terminate()
        server.wait()


def peak_megabytes(pid: int) -> float:
    """The largest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
