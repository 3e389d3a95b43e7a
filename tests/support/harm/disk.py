"""A disk of Postgres that is full in a phase of a run, and has room again later."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psycopg

from tests.support.harm.attempts import Attempts, anytime, repeat
from tests.support.harm.report import Report
from tests.support.harm.service import Service, running
from tests.support.processes import SECONDS

MEGABYTES = 250


def disk(folder: Path, rng: Random, times: int, report: Report) -> None:
    """Fills a small file system of its own; skipped where none can be mounted."""
    ballast = folder / "state" / "ballast"

    def strike(service: Service, rng: Random) -> str:
        """Leave no byte, until the run has ended; readers go on."""
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        _wait_for_the_end(service)
        status = service.get("/features?limit=1")[0]
        report.counts[f"reader while it is full: {status}"] += 1
        ballast.unlink()
        return "full"

    with small_disk(folder / "state", MEGABYTES) as is_small:
        if not is_small:
            report.skipped = "skipped: only root may mount a small file system"
            return
        with running(folder, rng, report, users=3000) as (service, data):
            repeat(Attempts(service, data, rng, report), times, anytime(strike, rng))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """A new folder, on a file system of its own where one can be mounted."""
    folder.mkdir()
    options = f"size={megabytes}m,mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    is_small = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    try:
        yield is_small
    finally:
        if is_small:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _wait_for_the_end(service: Service) -> None:
    """Until no connection leads a run; the server itself may end of a full disk."""
    deadline = time.monotonic() + SECONDS
    with suppress(psycopg.OperationalError):
        while service.query("select pid from etl.locks where leads"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
