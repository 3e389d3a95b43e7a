"""The examples in the docs for clients and operators, run as they are there."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from etl.postgres.folders import client_binaries
from etl.postgres.migrations import migrate
from etl.settings import Settings
from tests.support.examples import ADDRESS, bash, environment, example, python
from tests.support.processes import get, run_server, serving

pytestmark = pytest.mark.any_postgres


@pytest.fixture
def url(database: str) -> Iterator[str]:
    """A service with rows in its table."""
    with serving(DATABASE_URL=database) as (_, address):
        assert get(f"{address}/trigger_etl")["run"]["state"] == "succeeded"
        yield address


def test_curl(url: str, tmp_path: Path) -> None:
    printed = bash(example("sh", "%header{location}").replace(ADDRESS, url), tmp_path)
    end = printed[printed.index("id: end") :]
    assert '"id": 2, "state": "succeeded"' in end
    assert '{"name":"Alice","total_experiments":2}' in end


def test_pandas(url: str, tmp_path: Path) -> None:
    text = example("python", "import pandas").replace(ADDRESS, url)
    printed = python(f"{text}\nprint(features.dtypes, len(features))", tmp_path)
    assert re.search(r"^0 +Alice +2$", printed, re.M)
    assert re.search(r"^most_common_compound_id +Int64$", printed, re.M)
    assert re.search(r"^signup_date +datetime64", printed, re.M)
    assert printed.endswith(" 10\n")


def test_polars(url: str, tmp_path: Path) -> None:
    text = example("python", "import polars").replace(ADDRESS, url)
    printed = python(f"{text}\nprint(dict(features.schema), len(features))", tmp_path)
    assert re.search(r"│ Alice +┆ 2 +│", printed)
    assert "'most_common_compound_id': Int64" in printed
    assert "'signup_date': Date" in printed
    assert printed.endswith(" 10\n")


def test_psql(url: str, tmp_path: Path, database: str) -> None:
    printed = bash(
        example("sh", 'psql "$DATABASE_URL"'),
        tmp_path,
        DATABASE_URL=database,
        PATH=f"{client_binaries()}:{os.environ['PATH']}",
    )
    assert re.search(r"^ Alice +\| +2$", printed, re.M)
    with (tmp_path / "features.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10


def test_listening(url: str, tmp_path: Path, database: str) -> None:
    with (
        psycopg.connect(database, autocommit=True) as one,
        subprocess.Popen(
            [sys.executable, "-c", example("python", "listen features")],
            env=environment(DATABASE_URL=database),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            until_somebody_listens(one)
            assert get(f"{url}/trigger_etl?full=true")["run"]["id"] == 2
            assert process.stdout is not None
            assert process.stdout.readline() == "run 2 has published\n"
        finally:
            process.kill()


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_start_over(state_folder: Path, mode: int) -> None:
    """As root, files below a folder that is closed to others are elsewhere."""
    folder = state_folder / f"start-over-{mode:o}"
    folder.mkdir(mode=mode)
    folder.chmod(mode)
    neighbour = state_folder / f"start-over-{mode:o}-neighbour"
    neighbour.mkdir(mode=mode)
    neighbour.chmod(mode)
    assert "run 1 succeeded" in run_server("--once", STATE_DIR=neighbour).stdout
    for _ in range(2):
        ended = run_server("--once", STATE_DIR=folder / ".state")
        assert "run 1 succeeded" in ended.stdout
        files = (folder / ".state" / "postgres").resolve()
        assert (files / "data").exists()
        bash(example("sh", "rm -rf"), folder)
        assert not files.exists()
        assert [*folder.iterdir()] == []
    assert (neighbour / "postgres" / "data").exists()
    bash('rm -rf "$(realpath postgres)"', neighbour)


async def test_start_over_in_a_named_database(
    url: str, connection: AsyncConnection, settings: Settings
) -> None:
    await connection.execute(example("sql", "drop schema").encode())
    left = await connection.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
    )
    assert await left.fetchall() == []
    await migrate(connection, settings.sql_dir)
    rows = await connection.execute("select count(*) from features, etl.runs")
    assert await rows.fetchone() == (0,)


def until_somebody_listens(one: psycopg.Connection) -> None:
    one.execute("set statement_timeout = '30s'")
    one.execute(
        """
        do $$
        begin
            while not exists (
                select from pg_stat_activity
                where query = 'listen features' and state = 'idle'
                    and datname = current_database()
            ) loop
                perform pg_sleep(0.02), pg_stat_clear_snapshot();
            end loop;
        end
        $$
        """
    )
