"""Space on the disk of the embedded Postgres that is kept for when it is full.

To give back what a failed run has filled, Postgres needs a little space itself: without
any it cannot empty a table, and a checkpoint ends the server. Knows one file.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

#: Bytes that are kept: two files of WAL.
RESERVE_BYTES = 32 << 20

#: The disk's free space must be so many times the reserve for it to be taken.
MIN_FREE = 2

NAME = "reserve"


def keep_reserve(home: Path) -> None:
    """Take the space, unless it is taken already, or the disk has hardly more.

    ``home`` is the folder of the cluster.
    """
    reserve = home / NAME
    free = shutil.disk_usage(home).free
    if reserve.exists() or free < MIN_FREE * RESERVE_BYTES:
        return
    with suppress(OSError):
        reserve.write_bytes(bytes(RESERVE_BYTES))  # a hole would take no space
        return
    reserve.unlink(missing_ok=True)


def release_reserve(home: Path) -> None:
    """Give the space to Postgres; keep_reserve() takes it again."""
    (home / NAME).unlink(missing_ok=True)
