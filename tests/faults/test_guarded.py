"""The program with tokens: its warnings, its log, and the scripts."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from etl.settings import PROJECT
from tests.support.processes import SECONDS, answer, environment, run_server, serving

pytestmark = pytest.mark.any_postgres

TOKEN, READ = "run-t0ken", "read-t0ken"


@dataclass(frozen=True)
class Guarded:
    """A service with both tokens that logs JSON."""

    url: str
    log: Path

    def send(self, head: bytes) -> bytes:
        """Send a request as it is; its status, once all was sent and logged."""
        place = urlsplit(self.url)
        address = (place.hostname, place.port)
        with socket.create_connection(address, timeout=SECONDS) as connection:
            connection.sendall(
                head + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            with connection.makefile("rb") as answer:
                return answer.read().splitlines()[0]

    def trigger(self, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROJECT / "scripts" / "trigger.sh")],
            env=environment(URL=self.url, **settings),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def guarded(database: str, tmp_path: Path) -> Iterator[Guarded]:
    settings = {"DATABASE_URL": database, "API_TOKEN": TOKEN, "API_TOKEN_READ": READ}
    log = tmp_path / "log"
    with serving(log, LOG_FORMAT="json", **settings) as (_, url):
        yield Guarded(url, log)


def test_the_script_sends_the_token(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\r\n")
    for settings in ({"API_TOKEN": TOKEN}, {"API_TOKEN_FILE": str(file)}):
        ended = guarded.trigger(**settings)
        assert ended.returncode == 0, ended.stderr
        assert "successfully inserted into database" in ended.stdout
    for settings in ({}, {"API_TOKEN": READ}):
        refused = guarded.trigger(**settings)
        assert refused.returncode == 1
        assert "result:  this needs the header Authorization" in refused.stdout


def test_the_script_prints_the_reasons(database: str, data_dir: Path) -> None:
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("2023-02-01", "2023-02-31"))
    with serving(DATABASE_URL=database, DATA_DIR=data_dir) as (_, url):
        output = Guarded(url, data_dir).trigger().stdout
    for line in (
        "users.csv: 10 records, 1 rejected (1 invalid_value), ",
        "user_experiments.csv: 11 records, 1 rejected (1 rejected_user), ",
        "compounds.csv: 3 records, 120 bytes",
    ):
        assert f"\n  {line}" in output


def test_health_needs_no_token(guarded: Guarded) -> None:
    for path in ("/healthz", "/readyz", "/"):
        assert answer(f"{guarded.url}{path}")[0] == 200
    assert answer(f"{guarded.url}/runs")[0] == 401


def test_log_lines_are_whole_and_have_no_token(guarded: Guarded) -> None:
    assert guarded.trigger(API_TOKEN=TOKEN).returncode == 0
    bearer = b"Authorization: Bearer "
    for head, status in (
        (b"GET /features/%0aINFO%20forged%1b[2K HTTP/1.1\r\n" + bearer + b"x", 401),
        (b"GET /a%0ab?c%0d=%00 HTTP/1.1\r\n" + bearer + READ.encode(), 404),
        (b"GET /runs HTTP/1.1\r\n" + bearer + TOKEN.encode() + b"\x01", 400),
        (b"GET /runs HTTP/1.1\r\n" + bearer + TOKEN.encode() + b"x" * 9000, 431),
        (b"GET /runs HTTP/1.1\r\n" + bearer + READ.encode(), 200),
    ):
        assert int(guarded.send(head).split()[1]) == status, head
    text = guarded.log.read_text()
    assert TOKEN not in text
    assert READ not in text
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= set(line)
        assert line["level"] in ("INFO", "WARNING")
    requests = [line for line in lines if line["logger"] == "aiohttp.access"]
    found = [(line["method"], line["path"], line["status"]) for line in requests]
    assert ("GET", "/trigger_etl", 200) in found
    assert ("GET", "/runs", 200) in found
    assert all(line["bytes"] > 0 and line["seconds"] >= 0 for line in requests)
    steps = [line for line in lines if "milliseconds" in line]
    assert "build/030_features.sql" in {step["file"] for step in steps}
    assert {step["run"] for step in steps} == {1}
    assert [line["run"] for line in lines if "succeeded" in line["message"]] == [1]


def test_text_lines_name_the_run(database: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(log, DATABASE_URL=database) as (_, url):
        urllib.request.urlopen(f"{url}/trigger_etl", timeout=SECONDS).close()
    lines = log.read_text().splitlines()
    assert any(" INFO run 1: build/030_features.sql: 10 rows in " in x for x in lines)
    assert any(" INFO run 1 succeeded in " in line for line in lines)
    assert any(" GET /trigger_etl 200 " in line for line in lines)
    assert not [line for line in lines if "WARNING" in line]


@pytest.mark.parametrize(
    ("warns", "settings"),
    [
        (True, {"HOST": "0.0.0.0"}),
        (True, {"HOST": "::"}),
        (True, {"HOST": "127.0.0.1", "API_TOKEN_READ": READ}),
        (False, {"HOST": "0.0.0.0", "API_TOKEN": TOKEN}),
        (False, {"HOST": "localhost"}),
        (False, {"HOST": "::1"}),
        (False, {"HOST": "127.0.0.2"}),
    ],
)
def test_a_start_that_lets_anyone_start_runs_warns_once(
    database: str, tmp_path: Path, warns: bool, settings: dict[str, str]
) -> None:
    log = tmp_path / "log"
    with serving(log, DATABASE_URL=database, **settings):
        pass
    warnings = [line for line in log.read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == warns, warnings
    assert all("API_TOKEN is not set" in line for line in warnings)


def test_an_invalid_setting_does_not_print_the_token(state_folder: Path) -> None:
    ended = run_server(STATE_DIR=state_folder / "x", API_TOKEN="hush hush")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("API_TOKEN: a token is")
    assert "hush" not in ended.stderr


def test_the_script_says_what_was_kept(database: str, data_dir: Path) -> None:
    with serving(DATABASE_URL=database, DATA_DIR=data_dir) as (_, url):
        service = Guarded(url, data_dir)
        assert "kept" not in service.trigger().stdout
        output = service.trigger().stdout
        assert re.search(
            r"^run 2 succeeded in .* s: nothing has changed$", output, re.M
        )
        assert "users.csv: 10 records, 422 bytes, kept" in output
        assert "build/030_features.sql: 10 rows, not needed" in output
        with (data_dir / "user_experiments.csv").open("a") as file:
            file.write("100,1,1,10\n101,2,1,10\n")
        output = service.trigger().stdout
    assert re.search(r"^run 3 succeeded in [^:]*$", output, re.M)
    for pattern in (
        r"  user_experiments\.csv: 13 records, \d+ bytes, 2 records appended",
        r"  users\.csv: 10 records, \d+ bytes, kept",
        r"  build/030_features\.sql: 10 rows, [\d.]+ ms",
    ):
        assert re.search(f"^{pattern}$", output, re.M), pattern
