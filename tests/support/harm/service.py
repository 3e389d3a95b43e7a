"""A service of a part's own: its process, its Postgres, and requests to both.

Knows the tables of the engine, and no promise.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from etl.settings import PROJECT
from tests.support.harm.data import USERS, Data
from tests.support.harm.report import Report, Violation
from tests.support.processes import SECONDS, answer, environment, serving

PHASES = ("load", "clean", "build", "check", "publish")

#: What a server logs of an unexpected error: its line, and all up to the next.
TRACEBACK = re.compile(r"^.*\n(?=Traceback \()(?:(?!\d{4}-).*\n)*", re.M)

#: Of all rows, read past the service.
DIGEST = "select md5(string_agg(features::text, ',' order by features)) from features"


class Service:
    """A service with its own data and, unless ``conninfo`` names one, Postgres."""

    def __init__(
        self, folder: Path, conninfo: str | None = None, **settings: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.state, self.log = folder / "state", folder / "log"
        self.named = conninfo
        self.settings = {
            "STATE_DIR": self.state,
            "DATA_DIR": folder / "data",
            **({"DATABASE_URL": conninfo} if conninfo else {}),
            **settings,
        }
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.tracebacks: list[str] = []
        self._running = ExitStack()

    # Its process.

    def start(self, server: Path = PROJECT / "server.py") -> None:
        """Start it, and wait until it is ready. Raises Violation."""
        serves = serving(self.log, server=str(server), **self.settings)
        try:
            self.process, self.url = self._running.enter_context(serves)
        except AssertionError:
            raise Violation(f"it does not start: {self.said()}") from None
        self.wait_until_ready()

    def start_killed(
        self, seconds: float, server: Path = PROJECT / "server.py"
    ) -> None:
        """Start it, and kill it so many seconds later, ready or not."""
        starting = subprocess.Popen(
            [sys.executable, str(server)],
            env=environment(**{"PORT": 0, **self.settings}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        starting.kill()
        starting.wait()

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal that ends it, and wait; its exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended; its exit code. Raises Violation."""
        assert self.process is not None
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            stacks = Path(f"/proc/{self.process.pid}/wchan").read_text()
            self.process.kill()
            self.process.wait()
            raise Violation(f"it does not end: {stacks}: {self.said()}") from None
        self._running.close()
        self.process = None
        logged = self.log.read_text(errors="replace")
        if found := TRACEBACK.search(logged):
            self.tracebacks.append(f"{found[0][:500]} … {found[0][-1000:]}")
        return code

    def close(self, server: Path = PROJECT / "server.py") -> None:
        """Stop it, and its Postgres with it, whatever state it is in."""
        if self.process is None:
            with suppress(Violation):
                self.start(server)
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.end(signal.SIGTERM)

    def revive(self) -> None:
        """Start it where it has ended; wait until it is ready. Raises Violation."""
        if self.process is not None and self.process.poll() is not None:
            self.ended()
        if self.process is None:
            self.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        with suppress(OSError):
            while (found := answer(f"{self.url}/readyz"))[0] != 200:
                if time.monotonic() > deadline:
                    raise Violation(f"not ready in {SECONDS} s: {found[1].decode()}")
                time.sleep(0.05)
            return
        raise Violation(f"it has ended: {self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return " ".join(self.log.read_text(errors="replace").split())[-500:]

    # Requests.

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; OSError without one."""
        status, body = answer(f"{self.url}{path}")
        return status, json.loads(body)

    def features(self) -> bytes:
        status, body = answer(f"{self.url}/features")
        if status != 200:
            raise Violation(f"/features answers {status}: {body.decode()[:300]}")
        return body

    def trigger(self, parameters: str = "") -> tuple[int, Any]:
        """What the trigger answers once no run is in progress, or after a while."""
        deadline = time.monotonic() + SECONDS
        while True:
            status, body = self.get(f"/trigger_etl{parameters}")
            if status != 409 or time.monotonic() > deadline:
                return status, body
            time.sleep(0.05)

    def begin(self, parameters: str = "") -> int:
        """Start a run; its number. Raises Violation."""
        status, body = self.trigger(f"?wait=false{parameters}")
        if status != 202:
            raise Violation(f"the trigger answers {status}: {body}")
        return int(body["run"]["id"])

    def follow(self, run: int, phase: str | None = None) -> dict[str, Any] | None:
        """Wait until a run is in a phase or beyond it; its record if it has ended.

        Raises Violation.
        """
        url, deadline = f"{self.url}/runs/{run}/events", time.monotonic() + 2 * SECONDS
        with urllib.request.urlopen(url, timeout=SECONDS) as stream:
            event = ""
            for line in stream:
                if time.monotonic() > deadline:
                    raise Violation(f"run {run} does not end in {2 * SECONDS} s")
                name, _, value = line.decode().strip().partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    record: dict[str, Any] = json.loads(value)
                    if event == "end":
                        return record
                    if phase and record["phase"] in PHASES[PHASES.index(phase) :]:
                        return None
        raise Violation(f"the events of run {run} broke off")

    # Its Postgres.

    @property
    def conninfo(self) -> str:
        home = str((self.state / "postgres").resolve())
        return self.named or make_conninfo("", host=home, user="postgres")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            self.conninfo, autocommit=True, connect_timeout=5
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def digest(self) -> str | None:
        """What a reader past the service reads; None without a database."""
        try:
            return str(self.query(DIGEST)[0][0])
        except psycopg.OperationalError:
            return None

    def postmaster(self) -> int:
        """The first process of the embedded Postgres; OSError where it is stopped."""
        note = self.state / "postgres" / "data" / "postmaster.pid"
        return int(note.read_text().split("\n", 1)[0])

    def has_postgres(self) -> bool:
        """Whether its embedded Postgres runs."""
        with suppress(OSError, ValueError):
            command = Path(f"/proc/{self.postmaster()}/cmdline").read_bytes()
            return b"postgres" in command
        return False


@contextmanager
def running(
    folder: Path, rng: Random, report: Report, users: int = USERS, **settings: Any
) -> Iterator[tuple[Service, Data]]:
    """A service with files of its own that has done one run; it must stop in order."""
    data, service = Data(folder / "data", rng, users), Service(folder, **settings)
    try:
        service.start()
        service.get("/trigger_etl")
        yield service, data
    finally:
        service.close()
    report.require(not service.has_postgres(), "a stop ends Postgres")
    report.require(
        not service.tracebacks, "no traceback in the log", service.tracebacks
    )


def kill(numbers: list[int]) -> None:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
