"""A stop: no new runs, a last word to all who wait or listen, and exit code 0."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import AsyncConnection

from etl.api.app_keys import RUNNER
from etl.settings import PROJECT
from etl.signals import STOP_SIGNALS
from tests.support.client import Client, app_of, end_of, get, trigger
from tests.support.locks import locked, waits_for_a_lock
from tests.support.processes import (
    SECONDS,
    answer,
    environment,
    postgres_runs,
    serving,
    until,
)

SERVER = str(PROJECT / "server.py")

#: Runs server.py, and sends it the signal of its first argument while it imports.
SIGNAL_WHILE_IMPORTING = """
import os, runpy, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "etl.service":
            os.kill(os.getpid(), number)
number = int(sys.argv.pop(1))
sys.argv.pop(0)
sys.path[0] = os.path.dirname(sys.argv[0])
sys.meta_path.insert(0, Finder())
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(*arguments: str, **settings: object) -> subprocess.Popen[str]:
    """Python with these arguments, as a process whose output the test reads."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(PORT=0, **settings),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_closed(url: str) -> None:
    """Until nobody answers there any more."""
    place = urlsplit(url)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((place.hostname or "", place.port or 0)).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return
        time.sleep(0.02)
    raise TimeoutError


def test_all_who_wait_or_listen_get_their_last_word(database: str) -> None:
    with (
        ThreadPoolExecutor() as threads,
        serving(DATABASE_URL=database) as (process, url),
        locked(database, "lock table staging.users") as until_waited_for,
    ):
        waiting = threads.submit(answer, f"{url}/trigger_etl")
        until_waited_for()
        listeners = [urllib.request.urlopen(f"{url}/runs/1/events") for _ in range(3)]
        process.terminate()
        assert process.wait(SECONDS) == 0
        status, body = waiting.result(SECONDS)
        problem = json.loads(body)
        assert (status, problem["result"]) == (
            503,
            "interrupted: the service was stopped",
        )
        assert problem["run"]["state"] == "interrupted"
        for listener in listeners:
            with listener:
                lines = listener.read().decode().rstrip().splitlines()
            assert lines[-3:-1] == ["id: end", "event: end"]
            assert json.loads(lines[-1].removeprefix("data: ")) == problem["run"]
    with psycopg.connect(database) as one:
        found = one.execute("select state, error from etl.runs").fetchall()
        assert found == [("interrupted", "interrupted: the service was stopped")]
        assert one.execute("select from etl.locks").fetchall() == []


SLEEPING = """
select from pg_stat_activity
where wait_event = 'PgSleep' and datname = current_database()
"""

#: Whoever reads features waits until the gate is open, and for no lock, which would end
#: sooner.
GATE = """
insert into features (user_id, total_experiments, avg_experiments, experiments_pct)
values (1, 0, 0, 0);
create table gate ();
insert into gate default values;
create function is_open() returns boolean volatile language plpgsql as $$
begin
    while exists (select 1 from gate) loop
        perform pg_sleep(0.02);
    end loop;
    return true;
end;
$$;
create policy gate on features using (is_open());
alter table features enable row level security, force row level security;
"""


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_request_is_answered_or_let_go_of(database: str, is_answered: bool) -> None:
    """What can be answered in a few seconds is; the others do not keep the server."""
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(database, autocommit=True) as connection,
        serving(DATABASE_URL=database) as (process, url),
    ):
        connection.execute(GATE.encode())
        reading = threads.submit(answer, f"{url}/features?select=user_id")
        until(lambda: bool(connection.execute(SLEEPING).fetchall()))
        process.terminate()
        until_closed(url)
        if is_answered:
            connection.execute("delete from gate")
        assert process.wait(SECONDS) == 0
        if is_answered:
            assert reading.result(SECONDS) == (200, b'[\n{"user_id":1}\n]\n')
        else:
            assert isinstance(reading.exception(SECONDS), OSError)


def test_signals_after_the_first_do_no_harm(state: Path) -> None:
    with serving(STATE_DIR=state) as (process, url):
        assert answer(f"{url}/trigger_etl")[0] == 200
        while process.poll() is None:
            for number in STOP_SIGNALS:
                process.send_signal(number)
        assert process.returncode == 0
    assert not postgres_runs(state)


def test_once_signals_after_the_first_do_no_harm(database: str) -> None:
    with (
        locked(database, "lock table staging.users") as until_waited_for,
        started(SERVER, "--once", DATABASE_URL=database) as process,
    ):
        until_waited_for()
        while process.poll() is None:
            for number in STOP_SIGNALS:
                process.send_signal(number)
        assert process.returncode == 130
        assert process.stderr is not None
        assert process.stderr.read() == "interrupted\n"
    with psycopg.connect(database) as one:
        found = one.execute("select state from etl.runs").fetchall()
        assert found == [("interrupted",)]


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [([], 0, ""), (["--once"], 130, "interrupted\n")],
)
def test_a_signal_before_anything_is_started(
    number: int,
    arguments: list[str],
    code: int,
    message: str,
    state: Path,
) -> None:
    with started(
        *("-c", SIGNAL_WHILE_IMPORTING, str(int(number)), SERVER, *arguments),
        STATE_DIR=state,
    ) as process:
        assert process.communicate(timeout=SECONDS) == ("", message)
        assert process.returncode == code
    assert not state.exists()


def test_a_signal_while_a_database_is_waited_for() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listened on
        place = {"DB_HOST": "127.0.0.1", "DB_PORT": nobody.getsockname()[1]}
        with started(SERVER, **place) as process:
            assert process.stderr is not None
            assert "waiting up to 60 s" in process.stderr.readline()
            process.terminate()
            assert process.communicate(timeout=SECONDS) == ("", "")
            assert process.returncode == 0


async def test_no_run_begins_after_it(client: Client) -> None:
    await app_of(client)[RUNNER].stop()
    refused = await trigger(client, 503)
    assert refused["result"] == "the service is being stopped: it begins no run"
    assert refused["run"] is None
    assert await get(client, "/runs") == []


async def test_a_run_that_begins_meanwhile_is_interrupted(
    client: Client, connection: AsyncConnection
) -> None:
    async with connection.transaction():
        await connection.execute("lock table etl.runs in share mode")
        waiting = asyncio.create_task(trigger(client, 503))
        await waits_for_a_lock(connection)
        await app_of(client)[RUNNER].stop()
    problem = await waiting
    assert problem["result"] == "interrupted: the service was stopped"
    assert problem["run"] == await end_of(client, 1)
