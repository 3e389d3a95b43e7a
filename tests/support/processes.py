"""The program as a process of its own, and requests to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etl.settings import PROJECT

SECONDS = 60

SERVER = [sys.executable, str(PROJECT / "server.py")]


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without what could name a database or a token."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "DB_", "DATABASE_", "API_", "CORS_", "LOG_"))
    }
    return {**kept, **{name: str(value) for name, value in settings.items()}}


def run_server(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "server.py"), *arguments],
        env=environment(**settings),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def serving(
    log: Path | None = None,
    arguments: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    server: str = SERVER[-1],
    **settings: object,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process of its own, and its address once it serves.

    What it logs goes to the file ``log``; ``wrapper`` is a command that executes it.
    """
    with (log or Path(os.devnull)).open("w") as stderr:
        process = subprocess.Popen(
            [*wrapper, sys.executable, server, *arguments],
            env=environment(**{"PORT": 0, **settings}),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving on http://"), line
        yield process, line.split()[-1]
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return json.load(answer)


def fetch(url: str, token: str | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        body: bytes = answer.read()
        return body


def answer(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def postgres_runs(state: Path) -> bool:
    return (state / "postgres" / "data" / "postmaster.pid").exists()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
