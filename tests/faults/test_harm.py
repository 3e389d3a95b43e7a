"""scripts/harm.sh does what docs/reliability.md says of it: a few kills of many."""

from __future__ import annotations

import re
import socket
import subprocess
from contextlib import suppress
from threading import Thread

import pytest

from etl.settings import PROJECT
from tests.support.harm import requests
from tests.support.harm.report import Report
from tests.support.processes import SECONDS, environment

SCRIPT = str(PROJECT / "scripts" / "harm.sh")


def test_a_few_kills() -> None:
    ended = subprocess.run(
        [SCRIPT, "--parts", "kills", "--seed", "1", "--times", "2"],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = re.findall(r"^\| kills +\| 1 \| 2 \| \d+ \| 0 \|", ended.stdout, re.M)
    assert len(rows) == 1, ended.stdout


def test_every_part_is_described() -> None:
    described = subprocess.run(
        [SCRIPT, "--help"], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout
    parts = re.findall(r"(\w+) \([\d,]+\)", described)
    page = (PROJECT / "docs" / "reliability.md").read_text()
    assert len(parts) > 5
    assert [part for part in parts if f"`{part}`" not in page] == []


def test_a_part_ends_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    report = Report("kills", 1, seconds=25)
    for _ in report.rounds(10):
        now += 10
    assert (report.done, now) == (2, 20)


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LONGEST", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_without_end() -> None:
            with suppress(OSError), listener.accept()[0] as connection:
                while True:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")

        Thread(target=answer_without_end, daemon=True).start()
        host, port = listener.getsockname()
        assert requests.send(f"http://{host}:{port}", b"GET / HTTP/1.1") == "200"
