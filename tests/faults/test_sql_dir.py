"""The messages of a start with a pipeline that is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

import etl
from etl.postgres.database import how_to_start_over
from etl.settings import PROJECT, Settings
from etl.sqlfiles import SqlFileError
from tests.support.client import Client, StartService, trigger
from tests.support.processes import postgres_runs, run_server


def refused(*arguments: str, **settings: object) -> str:
    """The one line on stderr of a start that cannot be."""
    ended = run_server(*arguments, **{"PORT": 0, **settings})
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.endswith("\n")
    assert ended.stderr.count("\n") == 1
    return ended.stderr.rstrip("\n")


def empty(sql_dir: Path) -> None:
    shutil.rmtree(sql_dir)
    sql_dir.mkdir()


def upper_case(sql_dir: Path) -> None:
    (sql_dir / "build" / "x.SQL").write_text("select 1;")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (empty, "SQL_DIR: {sql_dir} has no folder schema: a pipeline has schema"),
        (upper_case, "build/x.SQL would be passed over: a SQL file is named like 010_"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--once",)])
def test_a_folder_that_is_wrong_stops_the_start(
    state: Path,
    sql_dir: Path,
    change: Callable[[Path], None],
    said: str,
    arguments: tuple[str, ...],
) -> None:
    """With one line, before Postgres is started."""
    change(sql_dir)
    line = refused(*arguments, STATE_DIR=state, SQL_DIR=sql_dir)
    assert line.startswith(said.format(sql_dir=sql_dir))
    assert not state.exists()


def test_a_wrong_schema_file_stops_the_start(database: str, sql_dir: Path) -> None:
    wrong = "alter table features\n    add x bigit;"
    (sql_dir / "schema" / "007_wrong.sql").write_text(wrong)
    for arguments in ((), ("--once",)):
        assert refused(*arguments, DATABASE_URL=database, SQL_DIR=sql_dir) == (
            'schema/007_wrong.sql, line 2, column 11: type "bigit" does not exist'
        )


def test_once_says_where_a_file_of_the_build_is_wrong(
    database: str, sql_dir: Path
) -> None:
    (sql_dir / "build" / "900_wrong.sql").write_text("select\n  nothing;")
    ended = run_server("--once", DATABASE_URL=database, SQL_DIR=sql_dir)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "run 1 failed: build/900_wrong.sql, line 2, column 3: "
        'column "nothing" does not exist'
    )


def test_what_the_message_says_starts_over_with_the_embedded_postgres(
    state: Path, sql_dir: Path
) -> None:
    settings = {"STATE_DIR": state, "SQL_DIR": sql_dir}
    assert run_server("--once", **settings).returncode == 0
    with (sql_dir / "schema" / "001_staging.sql").open("a") as file:
        file.write("-- another word\n")
    line = refused(**settings)
    assert line.startswith("schema/001_staging.sql was changed after it was applied to")
    said, _, advice = line.partition("; or start over: stop the service and run ")
    assert said.endswith("undo that, and make the change in a new file")
    assert not postgres_runs(state)
    environ = {**os.environ, "STATE_DIR": str(state)}  # of the project's own pipeline
    ended = subprocess.run(  # noqa: S602 (what the service says)
        advice, shell=True, cwd=PROJECT, env=environ, capture_output=True, check=True
    )
    assert ended.stdout == b"DROP DATABASE\n"
    assert run_server("--once", **settings).returncode == 0


def test_the_project_starts_over_without_its_state_dir(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    assert how_to_start_over(settings, "postgres") == (
        f"; or start over: stop the service and remove {settings.state_dir}, the "
        "embedded Postgres with all its data"
    )


async def test_a_database_with_a_file_that_is_missing_here_is_of_a_newer_version(
    start_service: StartService, sql_dir: Path, empty_database: str
) -> None:
    await start_service(sql_dir=sql_dir)
    schema = sql_dir / "schema"
    (schema / "002_features.sql").rename(schema / "002_other_name.sql")
    with pytest.raises(SqlFileError) as raised:
        await start_service(sql_dir=sql_dir)
    assert str(raised.value) == (
        "this database is of a newer version: schema/002_features.sql was applied to "
        "it, and this version does not have that file; or start over: stop the service "
        "and name an empty database"
    )
    await trigger(await start_service(sql_dir=sql_dir, database=empty_database))


async def test_a_database_of_a_newer_engine_is_refused(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await connection.execute(
        "insert into etl.applied values ('engine', '009_x.sql', ''), ('later', 'x', '')"
    )
    with pytest.raises(
        SqlFileError, match=r"of a newer version: etl/schema/009_x\.sql was applied"
    ):
        await start_service()


async def test_after_a_release_no_message_says_how_to_start_over(
    start_service: StartService, sql_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_service(sql_dir=sql_dir)
    (sql_dir / "schema" / "002_features.sql").unlink()
    monkeypatch.setattr(etl, "RELEASED", "1.0.0")
    with pytest.raises(SqlFileError, match=r"does not have that file$"):
        await start_service(sql_dir=sql_dir)


async def test_schema_files_with_other_line_ends_are_the_same(
    start_service: StartService, sql_dir: Path, database: str
) -> None:
    """As git writes them on Windows."""
    await trigger(await start_service(sql_dir=sql_dir))
    for path in sql_dir.rglob("*.sql"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    await trigger(await start_service(sql_dir=sql_dir))
    shutil.rmtree(sql_dir / "charts")
    await trigger(await start_service(sql_dir=sql_dir))


async def change_in_a_run(client: Client, sql_dir: Path, name: str) -> Any:
    """What a run says after a file appeared, which goes again."""
    path = sql_dir / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"select '\xe9';")
    answer = await trigger(client, 500)
    path.unlink()
    return answer["result"]


async def test_a_run_refuses_files_that_it_would_pass_over(
    start_service: StartService, sql_dir: Path
) -> None:
    client = await start_service(sql_dir=sql_dir)
    assert "build/x.SQL would be passed over: a SQL file is named like" in (
        await change_in_a_run(client, sql_dir, "build/x.SQL")
    )
    assert await change_in_a_run(client, sql_dir, "check/900_latin.sql") == (
        "check/900_latin.sql, line 1, column 9: the byte 0xE9 is not UTF-8: save the "
        "file as UTF-8"
    )
    await trigger(client)
    assert "checks would be passed over: the folders of a pipeline are" in (
        await change_in_a_run(client, sql_dir, "checks/010_new.sql")
    )
    (sql_dir / "checks").rmdir()
    for path in (sql_dir / "build").iterdir():
        path.unlink()
    assert "build holds no SQL file" in (await trigger(client, 500))["result"]
    (sql_dir / "build").rmdir()
    assert f"{sql_dir} has no folder build" in (await trigger(client, 500))["result"]
