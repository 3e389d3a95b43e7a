"""The most memory that a process took, and that a Postgres' backends took together.

Reads /proc, so Linux only. Looking costs a little: no time that counts is taken then.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks.
EVERY = 0.02


@dataclass(frozen=True)
class Peaks:
    """The most that was seen, in megabytes; None where it may not be seen."""

    process: float | None
    backends: float | None


def peak_megabytes(pid: int) -> float | None:
    """The largest resident memory of a process so far."""
    kilobytes = _value(Path(f"/proc/{pid}/status"), "VmHWM")
    return None if kilobytes is None else kilobytes / 1024


def watch(process: subprocess.Popen[str], pid: int, postmaster: int | None) -> Peaks:
    """Look until ``process`` ends: at ``pid``, and at all that ``postmaster`` started.

    Of backends anonymous memory counts: shared buffers are none, whoever touched them.
    """
    most: float | None = None
    backends: float | None = None
    while process.poll() is None:
        time.sleep(EVERY)  # first, for a new process is not its program yet
        most = _greater(most, peak_megabytes(pid))
        backends = _greater(backends, _backends_megabytes(postmaster))
    return Peaks(_greater(most, peak_megabytes(pid)), backends)


def _greater(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)


def _backends_megabytes(postmaster: int | None) -> float | None:
    try:
        text = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    except OSError:
        return None
    parts = [
        _value(Path(f"/proc/{pid}/smaps_rollup"), "Pss_Anon") for pid in text.split()
    ]
    known = [part for part in parts if part is not None]
    return sum(known) / 1024 if known else None


def _value(path: Path, name: str) -> int | None:
    """Kilobytes; None where the process is gone, or another's."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next(map(int, found), None)
