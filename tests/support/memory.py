"""Where the clusters of tests are: in memory, where the machine has room for them.

To create a database there takes a quarter of the time, and no disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A file system in memory, on Linux. In a container it is often small, or may hold no
#: programs.
MEMORY = Path("/dev/shm")  # noqa: S108 (mkdtemp makes the folders in it)

#: Bytes that have to be free there: for what processes that test at once take, several
#: times.
ROOM = 4 << 30


def _place() -> Path | None:
    """The folder for temporary files of clusters; None for the usual one."""
    try:
        free, flags = shutil.disk_usage(MEMORY).free, os.statvfs(MEMORY).f_flag
    except OSError:
        return None
    may_execute = not flags & os.ST_NOEXEC
    return MEMORY if free >= ROOM and may_execute else None


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that the server's user may reach, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_place()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
