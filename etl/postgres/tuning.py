"""Settings of the embedded Postgres, fitted to the machine, its data and its disk.

Knows memory, cores and sizes; knows no file of the cluster.
"""

from __future__ import annotations

import os
from pathlib import Path

from etl.settings import usable_cores

MEGABYTE = 1 << 20

#: Megabytes of WAL that are kept at least: two of its files, which Postgres needs.
MIN_WAL = 32

#: Megabytes of WAL below which checkpoints come too often even for small data, and
#: above which they are seldom enough for any run.
WAL_OF_SMALL_DATA, WAL_OF_LARGE_DATA = 64, 4096


def server_settings(data_bytes: int, disk_bytes: int) -> dict[str, str]:
    """The names and values that differ from PostgreSQL's defaults.

    ``data_bytes`` are those of the databases, ``disk_bytes`` those that are free on the
    disk or hold WAL.
    """
    memory, cores = _memory() // MEGABYTE, usable_cores()
    return {
        # A quarter of the memory, as PostgreSQL advises, bounded to leave others room.
        "shared_buffers": f"{max(32, min(memory // 4, 2048))}MB",
        "effective_cache_size": f"{max(64, memory // 2)}MB",
        "maintenance_work_mem": f"{max(32, min(memory // 16, 512))}MB",
        "work_mem": "16MB",
        # Nothing can replicate over a private socket: write the least WAL.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "min_wal_size": f"{MIN_WAL}MB",
        "max_wal_size": f"{_max_wal(data_bytes, disk_bytes)}MB",
        "wal_buffers": "16MB",
        "checkpoint_timeout": "15min",
        "max_worker_processes": str(max(8, 2 * cores)),
        "max_parallel_workers": str(cores),
        "max_parallel_workers_per_gather": str(cores // 2),
        "random_page_cost": "1.1",
        "jit": "off",
        # A week of logs, a file for each day of it.
        "logging_collector": "on",
        "log_filename": "postgres-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_timezone": "UTC",
    }


def _max_wal(data_bytes: int, disk_bytes: int) -> int:
    """Megabytes of WAL between two checkpoints, a power of two so that it changes
    seldom: four times as much as there is data, and a quarter of the disk at most.

    A run writes about half as much as there is data, for staging writes none. So most
    runs meet no checkpoint: with one in each, they take several percent longer.
    """
    data = max(WAL_OF_SMALL_DATA, min(4 * data_bytes // MEGABYTE, WAL_OF_LARGE_DATA))
    most = max(MIN_WAL, min(data, disk_bytes // MEGABYTE // 4))
    return 1 << (most.bit_length() - 1)


def _memory() -> int:
    """Bytes of memory that this process may use, a container's limit included."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return installed
    return min(installed, int(limit)) if limit.isdecimal() else installed
