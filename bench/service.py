"""A service of its own for a benchmark. Knows its program and its address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stopping import undisturbed

from etl.settings import DB_NAMES, LIBPQ_NAMES, PROJECT

PROGRAM = PROJECT / "server.py"

#: What the caller may have set, and must not change what is measured.
UNSET = (
    *("DATA_DIR", "SQL_DIR", "STATE_DIR", "LOAD_WORKERS", "BUILD_WORKERS", "HOST"),
    *("MAX_REJECTS", "KEEP_RUNS", "LOG_FORMAT", "CORS_ORIGINS", "WATCH"),
    *("API_TOKEN", "API_TOKEN_FILE", "API_TOKEN_READ", "API_TOKEN_READ_FILE"),
    *("DATABASE_URL", "DATABASE_URL_FILE"),
    *(*DB_NAMES, *LIBPQ_NAMES, "DB_PASS_FILE"),
)


@dataclass(frozen=True)
class Service:
    """A running service: where it is, and its process."""

    url: str
    pid: int

    def trigger(self, query: str = "") -> dict[str, Any]:
        """The record of a run; it may have failed. ``query`` begins with a ``?``.

        Raises HTTPError for a query that the service does not know.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/trigger_etl{query}") as answer:
                outcome: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code == 400:
                raise
            outcome = json.load(refused)
        if not outcome["run"]:
            raise RuntimeError(outcome["result"])
        record: dict[str, Any] = outcome["run"]
        return record


@contextmanager
def serving(environ: Mapping[str, str], program: Path = PROGRAM) -> Iterator[Service]:
    """Run the service on a free port while in here, with default settings but these."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    with ExitStack() as servers:
        with undisturbed():
            server = subprocess.Popen(
                [sys.executable, str(program)],
                env={**kept, "PORT": "0", **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # a Ctrl-C is ours to handle
            )
            servers.callback(undisturbed()(_stop), server)
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise RuntimeError("the service did not start: run it by hand to see why")
        yield Service(line.split()[-1], server.pid)


def _stop(server: subprocess.Popen[str]) -> None:
    server.terminate()
    server.wait()
