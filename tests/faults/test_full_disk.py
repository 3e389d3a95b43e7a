"""The embedded Postgres on a disk that is small, or full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.folders import bytes_below
from etl.postgres.tuning import MEGABYTE, server_settings
from tests.support.locks import locked
from tests.support.processes import SECONDS, answer, get, serving, until

#: Megabytes of a disk that has room for the cluster and little else.
DISK = 200


@pytest.fixture
def small_disk(state_folder: Path) -> Iterator[Path]:
    """A folder on a file system of its own, in memory."""
    folder = state_folder / f"disk-{time.monotonic_ns()}"
    folder.mkdir()
    size = f"size={DISK}m,mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root may mount a file system, and not in every container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(data_dir: Path, megabytes: int) -> None:
    """Put users with long names into a folder of data."""
    with (data_dir / "users.csv").open("w") as file:
        file.write("user_id,name,email,signup_date\n")
        for number in range(1000 * megabytes):
            file.write(f"{number + 1},{'x' * 1000},a@example.com,2024-01-01\n")


@pytest.mark.parametrize(("phase", "megabytes"), [("load", DISK), ("build", DISK // 2)])
def test_a_run_too_large_for_the_disk(
    small_disk: Path, data_dir: Path, tmp_path: Path, phase: str, megabytes: int
) -> None:
    """It reports the full disk, and leaves room for the next run without a restart."""
    log, kept = tmp_path / "log", tmp_path / "kept"
    shutil.copytree(data_dir, kept)
    with serving(log, STATE_DIR=small_disk, DATA_DIR=data_dir) as (process, url):
        assert answer(f"{url}/trigger_etl")[0] == 200
        before = shutil.disk_usage(small_disk).free
        for _ in range(2):
            fill(data_dir, megabytes)
            status, body = answer(f"{url}/trigger_etl")
            run = json.loads(body)["run"]
            assert (status, run["state"]) == (500, "failed")
            assert run["error"].startswith(f"{phase}: the disk of the database is full")
            assert run["error"].endswith("make room, or load less, and run again")
            assert shutil.disk_usage(small_disk).free > before - 64 * MEGABYTE
            shutil.copytree(kept, data_dir, dirs_exist_ok=True)
            assert answer(f"{url}/trigger_etl")[0] == 200
        process.terminate()
        assert process.wait(SECONDS) == 0
    logged = log.read_text()
    assert "Traceback" not in logged
    assert "is started again" not in logged


def test_a_disk_without_room_for_wal(small_disk: Path) -> None:
    """Postgres ends itself; the run reports why; the next one finds it restarted."""
    with ThreadPoolExecutor() as threads, serving(STATE_DIR=small_disk) as (_, url):
        assert answer(f"{url}/trigger_etl")[0] == 200
        host = str((small_disk / "postgres").resolve())
        conninfo = make_conninfo("", host=host, user="postgres")
        ballast = small_disk / "ballast"
        with (
            suppress(psycopg.OperationalError),  # it ends with the server
            locked(conninfo, "lock table staging.users") as until_waited_for,
        ):
            running = threads.submit(answer, f"{url}/trigger_etl?full=true")
            until_waited_for()
            with ballast.open("wb") as file:
                free = shutil.disk_usage(small_disk).free
                os.posix_fallocate(file.fileno(), 0, free - MEGABYTE)
            with (
                psycopg.connect(conninfo, autocommit=True) as one,
                pytest.raises(psycopg.OperationalError),
            ):
                for _ in range(DISK):
                    write_wal(one)
        status, body = running.result(SECONDS)
        ballast.unlink()
        assert status == 500
        result = json.loads(body)["result"]
        assert result.startswith("load: the disk of the database is full: could not ")
        assert "pg_wal" in result
        until(lambda: answer(f"{url}/readyz")[0] == 200)
        assert answer(f"{url}/trigger_etl")[0] == 200
        assert len(get(f"{url}/features")) == 10


def test_a_disk_that_others_fill_again_and_again(
    small_disk: Path, data_dir: Path, tmp_path: Path
) -> None:
    """Runs fail, but readers are served: no checkpoint without room ends Postgres."""
    log, ballast = tmp_path / "log", small_disk / "ballast"
    with serving(log, STATE_DIR=small_disk, DATA_DIR=data_dir) as (_, url):
        assert answer(f"{url}/trigger_etl")[0] == 200
        fill(data_dir, 50)
        for _ in range(3):
            fill_disk(ballast)
            status, body = answer(f"{url}/trigger_etl")
            assert status == 500
            assert "the disk of the database is full" in json.loads(body)["result"]
            fill_disk(ballast)
            assert len(get(f"{url}/features")) == 10
        ballast.unlink()
        (data_dir / "users.csv").write_text("user_id,name,email,signup_date\n1,A,,\n")
        (data_dir / "user_experiments.csv").write_text(
            "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"
            "1,1,1,1\n"
        )
        assert answer(f"{url}/trigger_etl")[0] == 200
        assert [row["name"] for row in get(f"{url}/features")] == ["A"]
    assert "is started again" not in log.read_text()


def fill_disk(ballast: Path) -> None:
    """Let a file grow until there is not one byte left."""
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def write_wal(connection: psycopg.Connection) -> None:
    """Write a megabyte of WAL."""
    connection.execute(
        "select pg_logical_emit_message(false, 'test', repeat('x', %s))", [MEGABYTE]
    )


def test_wal_of_small_data_is_bounded(state_folder: Path) -> None:
    cluster = embedded.start(state_folder / "wal")
    try:
        with psycopg.connect(cluster.conninfo, autocommit=True) as connection:
            for _ in range(150):
                write_wal(connection)
            connection.execute("checkpoint")
        assert bytes_below(cluster.data / "pg_wal") < 100 * MEGABYTE
    finally:
        embedded.stop(cluster)


def test_settings_follow_the_data(state_folder: Path) -> None:
    cluster = embedded.start(state_folder / "growing")
    try:
        with psycopg.connect(cluster.conninfo, autocommit=True) as connection:

            def max_wal_size() -> str:
                row = connection.execute("show max_wal_size").fetchone()
                assert row is not None
                return str(row[0])

            assert max_wal_size() == "64MB"
            connection.execute("create unlogged table large (text text)")
            connection.execute("alter table large alter text set storage plain")
            connection.execute(
                "insert into large select repeat('x', 8000)"
                " from generate_series(1, 16 * 1024)"
            )
            embedded.fit(cluster)
            until(lambda: max_wal_size() == "512MB")
            connection.execute("drop table large")
            connection.execute("checkpoint")
            embedded.fit(cluster)
            until(lambda: max_wal_size() == "64MB")
    finally:
        embedded.stop(cluster)


@pytest.mark.parametrize(
    ("data", "disk", "most"),
    [
        (30, 100_000, 64),
        (30, 300, 64),
        (30, 200, 32),
        (30, 10, 32),
        (500, 100_000, 1024),
        (1500, 2000, 256),
        (100_000, 100_000, 4096),
    ],
)
def test_the_bound_of_wal(data: int, disk: int, most: int) -> None:
    """In megabytes, four times the data, and a quarter of the disk at most."""
    settings = server_settings(data * MEGABYTE, disk * MEGABYTE)
    assert settings["max_wal_size"] == f"{most}MB"
