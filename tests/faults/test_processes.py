"""The program as a person starts it: exit codes, signals, kills, wrong settings."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl.settings import PROJECT
from etl.signals import STOP_SIGNALS
from tests.support.databases import Postgres
from tests.support.processes import (
    SECONDS,
    SERVER,
    environment,
    get,
    postgres_runs,
    run_server,
    serving,
)


def test_once_shows_the_table(state: Path) -> None:
    ended = run_server("--once", STATE_DIR=state)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("user_id"))
    assert lines[start + 2].split()[:4] == [
        *("1", "Alice", "alice@example.com", "2023-01-01")
    ]
    assert lines[start + 11].split()[:2] == ["10", "Judy"]
    assert "10 of 10 rows" in lines[start + 13]
    assert not postgres_runs(state)


def test_once_says_what_it_kept(state: Path, data_dir: Path) -> None:
    settings = {"STATE_DIR": state, "DATA_DIR": data_dir}

    def lines() -> list[list[str]]:
        ended = run_server("--once", **settings)
        assert (ended.returncode, ended.stderr) == (0, "")
        return [line.split() for line in ended.stdout.splitlines()]

    first = lines()
    assert ["file", "records", "this", "run", "rejected", "size"] in first
    assert ["users.csv", "10", "loaded", "0"] in [line[:4] for line in first]
    second = lines()
    found = next(line for line in second if line[:3] == ["run", "2", "succeeded"])
    assert found[5:] == ["s:", "nothing", "has", "changed"]
    assert ["users.csv", "10", "kept", "0"] in [line[:4] for line in second]
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n101,2,1,10\n")
    third = lines()
    appended = ["user_experiments.csv", "13", "2", "appended", "0"]
    assert appended in [line[:5] for line in third]
    assert ["users.csv", "10", "kept", "0"] in [line[:4] for line in third]


def test_once_fits_into_a_terminal(state: Path) -> None:
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (24, 80))
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "server.py"), "--once"],
        env=environment(STATE_DIR=state),
        stdout=its,
    )
    os.close(its)
    output = b""
    with contextlib.suppress(OSError):  # what a terminal says when nobody writes to it
        while chunk := os.read(ours, 1 << 16):
            output += chunk
    os.close(ours)
    assert process.wait(SECONDS) == 0
    text = output.decode().replace("\r\n", "\n")
    text = re.sub(
        r"\x1b\[[0-9;?]*[a-zA-Z]", "", text
    )  # colours, and the moves of the bar
    drawn, _, rest = text.partition("run 1 succeeded in")
    assert "run 1  load" in drawn
    table, _, _ = rest.partition("10 of 10 rows")
    assert "alice@" in table
    assert max(map(len, re.split("[\r\n]+", drawn + table))) <= 80


def test_a_reader_who_has_seen_enough_does_not_stop_the_run(state: Path) -> None:
    command = [sys.executable, str(PROJECT / "server.py"), "--once"]
    with subprocess.Popen(
        command, env=environment(STATE_DIR=state), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 0
    with serving(STATE_DIR=state) as (_, url):
        assert get(f"{url}/runs/1")["state"] == "succeeded"


def test_once_fails_with_the_error(state: Path, data_dir: Path) -> None:
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("2023-", "2023-99-"))
    ended = run_server("--once", STATE_DIR=state, DATA_DIR=data_dir)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-10:] == [
        "rejected records by reason",
        "  users.csv: 10 invalid_value",
        "the first errors",
        *(
            f"  users.csv, line {line}, column signup_date, value "
            f"'2023-99-0{line - 2}-01': "
            f'"2023-99-0{line - 2}-01" is not a date written YYYY-MM-DD'
            for line in range(3, 8)
        ),
        "all of them: the table etl.rejects, and GET /runs/1/rejects",
        "",
    ]
    assert ended.stderr == (
        "run 1 failed: users.csv: 10 of 10 records are rejected, more than "
        "MAX_REJECTS=10% allows: "
        'line 3, column signup_date: "2023-99-01-01" is not a date written YYYY-MM-DD; '
        'line 4, column signup_date: "2023-99-02-01" is not a date written YYYY-MM-DD; '
        'line 5, column signup_date: "2023-99-03-01" is not a date written YYYY-MM-DD'
        "\n"
    )


def test_once_says_what_it_left_out(state: Path, data_dir: Path) -> None:
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("2023-02-01", '"3\x1b[31m"'))
    ended = run_server("--once", STATE_DIR=state, DATA_DIR=data_dir)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    start = lines.index("rejected records by reason")
    message = '"3<U+001B>[31m" is not a date written YYYY-MM-DD'
    assert lines[start + 1 : start + 7] == [
        "  user_experiments.csv: 1 rejected_user",
        "  users.csv: 1 invalid_value",
        "the first errors",
        f"  users.csv, line 4, column signup_date, value '3?[31m': {message}",
        "  user_experiments.csv, line 4, column user_id, value '2': "
        f"its user is users.csv, line 4, which was rejected: {message}",
        "all of them: the table etl.rejects, and GET /runs/1/rejects",
    ]
    assert "9 of 9 rows" in ended.stdout


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_stops_both(state: Path, number: signal.Signals) -> None:
    with serving(STATE_DIR=state) as (process, url):
        assert get(f"{url}/trigger_etl")["run"]["state"] == "succeeded"
        assert postgres_runs(state)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
    assert not postgres_runs(state)


def test_a_closed_terminal_stops_both(state: Path) -> None:
    ours, its = os.openpty()
    process = subprocess.Popen(
        # Takes its output for the terminal that it is controlled by.
        ["/bin/sh", "-c", 'exec setsid --ctty "$@" <&1', "sh", *SERVER],
        env=environment(PORT=0, STATE_DIR=state),
        stdout=its,
        stderr=its,
    )
    os.close(its)
    said = b""
    while b"Serving on" not in said:
        said += os.read(ours, 1 << 16)
    assert postgres_runs(state)
    os.close(ours)
    assert process.wait(SECONDS) == 0
    assert not postgres_runs(state)


def test_nohup_outlives_a_closed_terminal(state: Path) -> None:
    """SIGHUP that is ignored at the start stays ignored, before and while it serves.

    The soft limit of open files is raised before Postgres starts, which needs more.
    """
    nohup = ["/bin/sh", "-c", "trap '' HUP; ulimit -Sn 32; exec \"$@\"", "sh"]
    with serving(STATE_DIR=state, wrapper=nohup) as (process, url):
        process.send_signal(signal.SIGHUP)
        assert get(f"{url}/trigger_etl")["run"]["state"] == "succeeded"
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not postgres_runs(state)


def test_a_killed_server_is_taken_up_again(state: Path) -> None:
    """Its Postgres lives on; its run is then interrupted, and the next succeeds."""
    with serving(STATE_DIR=state) as (process, url):
        get(f"{url}/trigger_etl")
        socket_folder = (state / "postgres").resolve()
        conninfo = make_conninfo("", host=str(socket_folder), user="postgres")
        with psycopg.connect(conninfo) as connection:
            connection.execute("lock table staging.users")
            get(f"{url}/trigger_etl?wait=false")
            process.kill()
            process.wait(SECONDS)
    assert postgres_runs(state)
    with serving(STATE_DIR=state) as (_, url):
        assert len(get(f"{url}/features")) == 10
        assert get(f"{url}/runs/2")["state"] == "interrupted"
        assert get(f"{url}/trigger_etl")["run"]["id"] == 3
    assert not postgres_runs(state)


def test_postgres_killed_too_recovers(state: Path) -> None:
    with serving(STATE_DIR=state) as (process, url):
        get(f"{url}/trigger_etl")
        note = state / "postgres" / "data" / "postmaster.pid"
        postmaster = int(note.read_text().splitlines()[0])
        process.kill()
        os.kill(postmaster, signal.SIGKILL)
        process.wait(SECONDS)
    with serving(STATE_DIR=state) as (_, url):
        assert len(get(f"{url}/features")) == 10
        get(f"{url}/trigger_etl")


def test_two_share_the_embedded_postgres(state: Path) -> None:
    with serving(STATE_DIR=state) as (_, url):
        ended = run_server("--once", STATE_DIR=state)
        assert ended.returncode == 0, ended.stderr
        assert get(f"{url}/runs")[0]["state"] == "succeeded"
    assert not postgres_runs(state)


def test_a_run_in_progress_is_interrupted_by_a_stop(state: Path) -> None:
    with serving(STATE_DIR=state) as (process, url):
        get(f"{url}/trigger_etl")
        host = str((state / "postgres").resolve())
        one = psycopg.connect(make_conninfo("", host=host, user="postgres"))
        one.execute("lock table staging.users")
        get(f"{url}/trigger_etl?wait=false")
        process.terminate()
        assert process.wait(SECONDS) == 0
        one.close()
    with serving(STATE_DIR=state) as (_, url):
        run = get(f"{url}/runs/2")
        assert run["state"] == "interrupted"
        assert run["error"] == "interrupted: the service was stopped"


def test_wrong_settings_are_one_line_and_exit_2(state: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, said in (
            (
                {"PORT": port},
                f"HOST, PORT: cannot listen on 127.0.0.1:{port}: another program has",
            ),
            ({"PORT": "none"}, "PORT: 'none' is not a whole number"),
            ({"HOST": "203.0.113.1"}, "HOST, PORT: cannot listen on 203.0.113.1"),
            ({"STATE_DIR": blocked / "below"}, f"STATE_DIR: {blocked}"),
            ({"STATE_DIR": "/proc/nowhere"}, "STATE_DIR: /proc/nowhere"),
            ({"SQL_DIR": "/nowhere"}, "SQL_DIR: /nowhere is not a folder"),
            ({"DATA_DIR": blocked}, f"DATA_DIR: {blocked} is not a folder that can"),
        ):
            ended = run_server(**{"PORT": 0, "STATE_DIR": state, **settings})
            assert ended.returncode == 2, settings
            assert ended.stderr.startswith(said), ended.stderr
            assert ended.stderr.count("\n") == 1
    assert not postgres_runs(state)


def test_too_few_descriptors_are_one_line(state: Path) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 32; exec "$@"', "sh", *SERVER],
        env=environment(PORT=0, STATE_DIR=state),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "insufficient file descriptors available" in ended.stderr


def test_a_malformed_url_does_not_show_its_password(state: Path) -> None:
    ended = run_server(STATE_DIR=state, DATABASE_URL="postgresql://u:hush@[::1:5/d")
    assert ended.returncode == 2
    assert ended.stderr.startswith("DATABASE_URL: not a connection string")
    assert "hush" not in ended.stderr


@pytest.mark.parametrize("password", ["hu@sh", "hu/sh", "1/hu@sh"])
def test_a_password_with_an_at_sign_is_refused_at_once(
    state: Path, password: str
) -> None:
    url = f"postgresql://ann:{password}@127.0.0.1:1/lab"
    ended = run_server("--once", STATE_DIR=state, DATABASE_URL=url)
    assert ended.returncode == 2
    assert ended.stderr == (
        "DATABASE_URL: one @ too many: in a user or a password, @ is written %40 and"
        " / is written %2F\n"
    )


def test_a_database_by_the_variables_of_libpq_is_named(
    postgres: Postgres, tmp_path: Path
) -> None:
    values = conninfo_to_dict(postgres.conninfo("nowhere"))
    host, port = values["host"], values.setdefault("port", "5432")
    file = tmp_path / "services"
    lines = [f"{name}={value}" for name, value in values.items()]
    file.write_text("\n".join(["[lab]", *lines, ""]))
    variables = {"dbname": "PGDATABASE"}  # the others have their names in capitals
    for names in (
        {variables.get(name, f"PG{name.upper()}"): values[name] for name in values},
        {"PGSERVICE": "lab", "PGSERVICEFILE": file},
    ):
        ended = run_server("--once", **names)
        assert ended.returncode == 2
        assert ended.stderr.startswith(
            f"no connection to the database nowhere at {host}:{port}: "
        )
        assert ended.stderr.count("\n") == 1


def test_names_without_a_host_are_warned_of(state: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {"DB_USER": "ann", "DB_PASS": "hush", "STATE_DIR": state}
    ended = run_server("--once", **names)
    assert ended.returncode == 0
    assert ended.stderr == "DB_USER, DB_PASS: ignored, since DB_HOST is not set\n"
    log = tmp_path / "log"
    # Were they not ignored, there would be no connection to the embedded Postgres.
    details = {"PGTZ": "nowhere", "PGOPTIONS": "--bogus", "PGREQUIREAUTH": "gss"}
    with serving(log, STATE_DIR=state, **details):
        pass
    ignored = "WARNING PGTZ, PGOPTIONS, PGREQUIREAUTH: ignored, since PGHOST"
    assert ignored in log.read_text()


def test_health_checks_leave_no_lines_while_all_is_well(
    database: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serving(log, DATABASE_URL=database) as (_, url):
        for path in ("/healthz", "/readyz?x=1", "/runs"):
            get(f"{url}{path}")
    lines = log.read_text()
    assert "GET /runs 200" in lines
    assert "/healthz" not in lines
    assert "/readyz" not in lines


def test_without_the_packages_it_says_what_to_use() -> None:
    command = [sys.executable, "-S", str(PROJECT / "server.py")]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("No module named '")
    assert ended.stderr.endswith("': use ./run.sh, which installs it\n")
