"""CPU seconds that a process has taken, or a whole Postgres.

Reads /proc, so Linux only.
"""

from __future__ import annotations

import os
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

#: Fields of /proc/PID/stat after the program's name: user and system time of a process
#: itself, and of those of its children that have ended.
OWN, ENDED = slice(11, 13), slice(13, 15)


def of_process(pid: int) -> float:
    """Seconds of a process with all its threads; 0 once it is gone."""
    return _seconds(pid, OWN)


def of_postgres(postmaster: int) -> float:
    """Seconds of a server: its first process, and all that this has ever started."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
    while True:
        ended = _seconds(postmaster, ENDED)
        started = sum(of_process(int(pid)) for pid in children.read_text().split())
        if _seconds(postmaster, ENDED) == ended:  # else one ended, and counts twice
            return of_process(postmaster) + started + ended


def parent_of(pid: int) -> int:
    """The process that started this one."""
    return int(_stat(pid)[1])


def _seconds(pid: int, fields: slice) -> float:
    try:
        return sum(map(int, _stat(pid)[fields])) / TICKS_A_SECOND
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
