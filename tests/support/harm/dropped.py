"""Connections to a named database that are dropped on the way, without a word to either
side, as a firewall does: in a network of this process's own, so only root can.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import psutil

from tests.support.harm.attempts import Attempts, anytime, repeat
from tests.support.harm.data import Data
from tests.support.harm.report import Report
from tests.support.harm.service import Service
from tests.support.processes import SECONDS, answer
from tests.support.tcpserver import tcp_server

CLONE_NEWNET = 0x40000000

#: It publishes nothing: what is published is the disturbed run's matter.
RUN = "/trigger_etl?dry_run=true"


def dropped(folder: Path, rng: Random, times: int, report: Report) -> None:
    """The server that leads a run loses its connections; within two minutes another
    one runs, and the first one answers again.
    """
    data = Data(folder / "data", rng)
    with ExitStack() as stack:
        if not stack.enter_context(_own_network()):
            report.skipped = "skipped: only root may have a network and iptables"
            return
        conninfo = stack.enter_context(tcp_server(folder)).conninfo("postgres")
        first, second = (
            Service(folder / name, conninfo, DATA_DIR=folder / "data")
            for name in ("first", "second")
        )
        for service in (first, second):
            service.start()
            stack.callback(service.close)
        first.get("/trigger_etl")

        def strike(service: Service, rng: Random) -> str:
            """Drop all that the first one has, and wait until both do all again."""
            began = time.monotonic()
            _drop_connections(service)
            for each, path in ((second, RUN), (first, "/features"), (first, RUN)):
                while not _succeeds(each, path):
                    if time.monotonic() - began > 4 * SECONDS:
                        break
                    time.sleep(0.5)
            taken = round(time.monotonic() - began)
            report.require(taken < 2 * SECONDS, "it is noticed in two minutes", taken)
            name = "max s until it is noticed"
            report.counts[name] = max(report.counts[name], taken)
            return "dropped"

        attempts = Attempts(first, data, rng, report)
        repeat(attempts, times, anytime(strike, rng))


def _succeeds(service: Service, path: str) -> bool:
    with suppress(OSError):
        return answer(f"{service.url}{path}")[0] == 200
    return False


def _drop_connections(service: Service) -> None:
    """No packet of its connections to the database arrives any more; new ones work."""
    assert service.process is not None
    server = int(service.url.rsplit(":", 1)[1])
    for link in psutil.Process(service.process.pid).net_connections("tcp"):
        if link.raddr and link.laddr.port != server:
            for way in ("--sport", "--dport"):
                rule = ["OUTPUT", "-p", "tcp", way, str(link.laddr.port), "-j", "DROP"]
                subprocess.run(["iptables", "-A", *rule], check=True)


@contextmanager
def _own_network() -> Iterator[bool]:
    """While in here, this thread and what it starts have a loopback of their own, where
    that is permitted.
    """
    libc = ctypes.CDLL(None)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if not shutil.which("iptables") or libc.unshare(CLONE_NEWNET) != 0:
            yield False
            return
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield True
        finally:
            libc.setns(before, CLONE_NEWNET)
    finally:
        os.close(before)
