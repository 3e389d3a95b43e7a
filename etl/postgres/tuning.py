"""Settings of the embedded Postgres, fitted to the machine that it finds.

Knows memory and cores; knows no file of the cluster.
"""

from __future__ import annotations

import os
from pathlib import Path

from etl.settings import usable_cores

MEGABYTE = 1 << 20


def server_settings() -> dict[str, str]:
    """The names and values that differ from PostgreSQL's defaults."""
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
        "max_wal_size": "4GB",
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
    }


def _memory() -> int:
    """Bytes of memory that this process may use, a container's limit included."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return installed
    return min(installed, int(limit)) if limit.isdecimal() else installed
