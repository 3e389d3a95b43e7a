"""An embedded Postgres that is killed while the service uses it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded, process
from etl.postgres.process import is_running
from tests.support.locks import locked
from tests.support.processes import SECONDS, answer, get, postgres_runs, serving, until

#: What the log says of each restart.
RESTARTED = "the embedded Postgres is started again"


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])


def kill(data: Path, *, only_first: bool = True) -> None:
    """Kill the server's first process, or all of its processes."""
    first = postmaster(data)
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    for number in [first, *([] if only_first else map(int, children))]:
        os.kill(number, signal.SIGKILL)
    until(lambda: is_gone(first))


def is_gone(number: int) -> bool:
    """Whether a process has ended, be it waited for or not."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes() == b""
    except OSError:
        return True


def kept(url: str) -> dict[str, Any]:
    """A run for which nothing has changed."""
    run: dict[str, Any] = get(f"{url}/trigger_etl")["run"]
    assert run["unchanged"]
    return run


def is_restarted(log: Path, times: int) -> bool:
    return log.read_text().count(RESTARTED) == times


@pytest.mark.parametrize("only_first", [True, False])
def test_it_is_started_again(
    state: Path,
    tmp_path: Path,
    only_first: bool,
) -> None:
    log, data = tmp_path / "log", state / "postgres" / "data"
    with serving(log, STATE_DIR=state) as (process, url):
        first = get(f"{url}/trigger_etl")
        for times in (1, 2):
            get(f"{url}/trigger_etl")
            last = kept(url)
            kill(data, only_first=only_first)
            # The connections of one whose first process is gone may answer for a while.
            until(partial(is_restarted, log, times))
            until(lambda: answer(f"{url}/readyz")[0] == 200)
            assert answer(f"{url}/healthz")[0] == 200
            assert get(f"{url}/runs/{last['id']}")["state"] == "succeeded"
        assert len(get(f"{url}/features")) == 10
        run = get(f"{url}/trigger_etl")["run"]
        assert run["id"] > first["run"]["id"]
        # What staging held is gone, and so is the knowledge of it.
        assert {file["load"] for file in run["files"]} == {"loaded"}
        assert not run["unchanged"]
        assert {file["load"] for file in kept(url)["files"]} == {"kept"}
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not postgres_runs(state)
    said = log.read_text()
    assert said.count("the embedded Postgres has ended: starting it again") == 2
    assert said.count(RESTARTED) == 2


def test_a_run_in_progress_fails(state: Path) -> None:
    data = state / "postgres" / "data"
    with ThreadPoolExecutor() as threads, serving(STATE_DIR=state) as (process, url):
        get(f"{url}/trigger_etl")
        host = str((state / "postgres").resolve())
        conninfo = make_conninfo("", host=host, user="postgres")
        with (
            suppress(psycopg.OperationalError),  # of what holds the lock
            locked(conninfo, "lock table staging.users") as until_waited_for,
        ):
            running = threads.submit(answer, f"{url}/trigger_etl")
            until_waited_for()
            kill(data)
            status, body = running.result(SECONDS)
        assert status == 503
        assert json.loads(body)["result"].startswith(
            "the connection to the database was lost"
        )
        until(lambda: is_running(data) and answer(f"{url}/readyz")[0] == 200)
        assert get(f"{url}/runs/2")["state"] in ("failed", "interrupted")
        assert get(f"{url}/runs/2")["error"]
        assert get(f"{url}/trigger_etl")["run"]["id"] > 2
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_stop_right_after_it_is_clean(state: Path) -> None:
    with serving(STATE_DIR=state) as (process, _):
        kill(state / "postgres" / "data", only_first=False)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not is_running(state / "postgres" / "data")


def test_processes_that_share_it_start_one(state_folder: Path) -> None:
    state_dir = state_folder / "killed-shared"
    clusters = [embedded.start(state_dir) for _ in range(3)]
    data = clusters[0].data
    kill(data)
    with ThreadPoolExecutor() as threads:
        list(threads.map(embedded.restart, clusters))
    number = postmaster(data)
    for cluster in clusters:
        assert postmaster(data) == number
        with psycopg.connect(cluster.conninfo) as one:
            one.execute("select 1")
        embedded.stop(cluster)
    assert not is_running(data)


async def test_the_tries_have_a_bound(
    state_folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "MAX_RESTARTS", 2)
    cluster = embedded.start(state_folder / "killed-broken")
    kill(cluster.data)
    control = cluster.data / "global" / "pg_control"
    control.rename(control.with_suffix(".moved"))
    async with embedded.kept_running(cluster), asyncio.timeout(SECONDS):
        while "2 tries to start it again did not help" not in caplog.text:
            await asyncio.sleep(0.05)
    assert caplog.text.count("Postgres did not start: ") == 2
    assert "pg_control" in caplog.text  # the reason
    embedded.stop(cluster)


def test_it_is_not_started_after_a_stop(state_folder: Path) -> None:
    """A try may still wait for the lock that the stop holds."""
    cluster = embedded.start(state_folder / "killed-stopped")
    embedded.stop(cluster)
    embedded.restart(cluster)
    assert not is_running(cluster.data)


def test_one_that_is_killed_while_it_starts(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of why it ended, and is tried again."""
    cluster = embedded.start(state_folder / "killed-early")
    embedded.stop(cluster)
    tried = []

    def run_as(command: list[str], *others: Any, **options: Any) -> None:
        tried.append(command)
        if len(tried) < 3:
            raise process.EmbeddedError("pg_ctl: could not start server")
        run(command, *others, **options)

    run = process.run_as
    monkeypatch.setattr(process, "run_as", run_as)
    process.start_server(cluster.binaries, cluster.home, cluster.owner, tries=3)
    assert len(tried) == 3
    assert is_running(cluster.data)
    cluster = embedded.start(state_folder / "killed-early")
    embedded.stop(cluster)
    assert not is_running(cluster.data)
