"""Pipelines beside each other: each has a database of its own on the embedded Postgres,
and a named database that holds another one is refused."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.database import DatabaseError, serving_postgres
from etl.postgres.process import files_of_owner
from etl.settings import PROJECT, Settings
from etl.sqlfiles import SqlFileError
from tests.support.client import StartService
from tests.support.processes import SECONDS, environment, get, run_server, serving

SHOP = PROJECT / "examples" / "shop"

#: A pipeline whose features name it, in place of {}.
SCHEMA = """
create schema staging;
create unlogged table staging.words (word text not null);
create table features (word text primary key, pipeline text);
create unlogged table features_next (like features);
"""
BUILD = "insert into features_next select word, '{}' from staging.words;"


def write_pipeline(folder: Path, holds: str) -> Path:
    for part in ("sql/schema", "sql/build", "data"):
        (folder / part).mkdir(parents=True)
    (folder / "sql/schema/001_words.sql").write_text(SCHEMA)
    (folder / "sql/build/010_words.sql").write_text(BUILD.format(holds))
    (folder / "data/words.csv").write_text("word\nhello\n")
    return folder


def run_once(state: Path, *arguments: object) -> str:
    """One run that must succeed; what it printed."""
    ended = run_server("--once", *map(str, arguments), STATE_DIR=state)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def query(
    *arguments: object, cwd: Path | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROJECT / "scripts" / "query.sh"), *map(str, arguments)],
        env=environment(**settings),
        cwd=cwd or PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def pipeline_in(state: Path, folder: Path) -> str:
    """What the features of a pipeline hold in its own database."""
    asked = ("-At", "-c", "select pipeline from features")
    ended = query(folder, *asked, STATE_DIR=state)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


def databases(state: Path, statement: str = "select 1") -> list[str]:
    """The databases of a cluster, once a statement has run in template1."""
    cluster = embedded.start(state)
    try:
        conninfo = make_conninfo(cluster.conninfo, dbname="template1")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())
            rows = connection.execute(
                "select datname from pg_database where not datistemplate order by 1"
            )
            return [name for (name,) in rows.fetchall()]
    finally:
        embedded.stop(cluster)


@pytest.fixture
def state(state_folder: Path, tmp_path: Path) -> Path:
    """A state folder of the test's own, in a folder that may be moved."""
    folder = state_folder / f"checkout-{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    folder.chmod(0o755)
    return folder / ".state"


@contextmanager
def running(state: Path) -> Iterator[None]:
    """While in here, the server runs, so that no start or stop takes its time."""
    cluster = embedded.start(state)
    with psycopg.connect(cluster.conninfo, autocommit=True) as connection:
        connection.execute("alter system set fsync = off")
        connection.execute("select pg_reload_conf()")
    yield
    embedded.stop(cluster)


@pytest.fixture(scope="module")
def shared(state_folder: Path) -> Iterator[Path]:
    """A state folder whose server runs; each test has pipelines of other names."""
    state = state_folder / "shared-by-pipelines"
    with running(state):
        yield state


def test_each_pipeline_has_a_database_named_after_its_folder(
    state: Path, tmp_path: Path
) -> None:
    with running(state):
        assert "in the database postgres at" in run_once(state)
        ours = write_pipeline(tmp_path / "Ours & More", "ours")
        same_name = write_pipeline(tmp_path / "x" / "ours-more", "same name")
        assert "in the database ours_more at" in run_once(state, ours)
        assert "in the database ours_more_2 at" in run_once(state, same_name)
        assert "in the database ours_more at" in run_once(state, ours)
        assert "10 of 10 rows" in run_once(state)
        assert databases(state) == ["ours_more", "ours_more_2", "postgres"]
        assert [pipeline_in(state, each) for each in (ours, same_name)] == [
            *("ours", "same name")
        ]


def test_two_servers_serve_two_pipelines_of_one_cluster(
    shared: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        urls = []
        for name in ("left", "right"):
            folder = write_pipeline(tmp_path / name, name)
            server = serving(arguments=[str(folder)], STATE_DIR=shared)
            urls.append(stack.enter_context(server)[1])
        for url in urls:
            assert get(f"{url}/trigger_etl")["run"]["id"] == 1
        served = [get(f"{url}/features") for url in urls]
    assert served == [
        [{"word": "hello", "pipeline": name}] for name in ("left", "right")
    ]


def test_starters_of_one_pipeline_at_once_create_one_database(
    shared: Path, tmp_path: Path
) -> None:
    folder = write_pipeline(tmp_path / "raced", "raced")
    with ExitStack() as stack:
        command = [sys.executable, str(PROJECT / "server.py"), str(folder)]
        servers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env=environment(PORT=0, STATE_DIR=shared),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        for server in servers:
            stack.callback(server.terminate)
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("Serving on")
    found = [name for name in databases(shared) if name.startswith("raced")]
    assert found == ["raced"]


def test_sql_dir_names_a_pipeline_too(shared: Path, tmp_path: Path) -> None:
    """SQL_DIR and DATA_DIR win, each for itself, over the folder that is given."""
    folder = write_pipeline(tmp_path / "first_dir", "first")
    other = write_pipeline(tmp_path / "second_dir", "second")
    (other / "data" / "words.csv").write_text("word\nbye\n")
    run_once(shared, folder)
    settings = {"SQL_DIR": folder / "sql", "STATE_DIR": shared}
    for data_dir, word in ((None, "bye"), (folder / "data", "hello")):
        values = settings | ({"DATA_DIR": data_dir} if data_dir else {})
        ended = run_server("--once", str(other), **values)
        assert ended.returncode == 0, ended.stderr
        assert "in the database first_dir at" in ended.stdout
        assert word in ended.stdout
    assert "second_dir" not in databases(shared)


def test_moving_the_checkout_with_its_state_loses_nothing(state: Path) -> None:
    """The folder of STATE_DIR, with pipelines in it, is moved; or copied."""
    checkout = state.parent
    with running(state):
        run_once(state, write_pipeline(checkout / "examples" / "one", "one"))
        run_once(state)
    moved = checkout.with_name(f"{checkout.name}-moved")
    shutil.copytree(checkout, moved, symlinks=True)
    embedded_owner = (checkout / ".state" / "postgres" / "data").stat()
    for path in [
        *(moved / ".state" / "postgres").rglob("*"),
        moved / ".state/postgres",
    ]:
        os.chown(path, embedded_owner.st_uid, embedded_owner.st_gid)
    output = run_once(moved / ".state", moved / "examples" / "one")
    assert "run 2 succeeded" in output
    assert "run 2 succeeded" in run_once(moved / ".state")
    shutil.rmtree(moved)


def test_a_copy_gets_a_database_of_its_own(shared: Path, tmp_path: Path) -> None:
    first = write_pipeline(tmp_path / "first", "first")
    run_once(shared, first)
    copied = Path(shutil.copytree(first, tmp_path / "copied"))
    assert "run 1 succeeded" in run_once(shared, copied)
    assert "run 2 succeeded" in run_once(shared, first)
    assert {"copied", "first"} <= {*databases(shared)}


def test_a_database_that_cannot_be_created_is_one_line_and_exit_2(
    shared: Path, tmp_path: Path
) -> None:
    """Postgres copies template1, which nobody may use meanwhile."""
    folder = write_pipeline(tmp_path / "refused", "refused")
    cluster = embedded.start(shared)
    try:
        with psycopg.connect(make_conninfo(cluster.conninfo, dbname="template1")):
            ended = run_server("--once", str(folder), STATE_DIR=shared)
    finally:
        embedded.stop(cluster)
    assert ended.returncode == 2
    assert f': no database for {folder}/sql: source database "temp' in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["postgres", "Übermäßig", "---", os.fsdecode(b"no UTF-8 \xff")]
)
def test_any_folder_name_gives_a_database(
    shared: Path, tmp_path: Path, name: str
) -> None:
    folder = write_pipeline(tmp_path / name, "this")
    run_once(shared, folder)
    assert pipeline_in(shared, folder) == "this"
    cluster = embedded.start(shared)
    try:
        with psycopg.connect(cluster.conninfo) as connection:  # the project's database
            found = connection.execute("select to_regclass('features')").fetchone()
    finally:
        embedded.stop(cluster)
    assert found == (None,)


def test_long_folder_names_differ(shared: Path, tmp_path: Path) -> None:
    folders = [write_pipeline(tmp_path / ("ü" * 60 + end), end) for end in ("a", "b")]
    for folder in folders:
        run_once(shared, folder)
    assert [pipeline_in(shared, folder) for folder in folders] == ["a", "b"]


def test_a_folder_that_is_no_pipeline_is_one_line_and_exit_2(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "half" / "sql").mkdir(parents=True)
    (tmp_path / "other" / "data").mkdir(parents=True)
    for arguments, said in (
        (["nowhere"], f"FOLDER: {tmp_path}/nowhere is not a folder: "),
        (["--once", "half"], f"FOLDER: {tmp_path}/half has no folder data: "),
        (["other"], f"FOLDER: {tmp_path}/other has no folder sql: "),
    ):
        *options, name = arguments
        ended = run_server(*options, str(tmp_path / name), PORT=0, STATE_DIR=state)
        assert ended.returncode == 2
        assert ended.stderr.startswith(said)
        assert ended.stderr.count("\n") == 1
    assert not state.exists()


def test_the_folder_is_found_from_where_the_caller_is(
    shared: Path, tmp_path: Path
) -> None:
    write_pipeline(tmp_path / "here", "here")
    ended = subprocess.run(
        [str(PROJECT / "run.sh"), "--once", "here"],
        env=environment(STATE_DIR=shared),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "all of them: scripts/query.sh here, or ./run.sh here and" in ended.stdout
    ended = query("here", cwd=tmp_path, STATE_DIR=shared)
    assert ended.returncode == 0
    assert " hello | here" in ended.stdout


def test_a_named_database_that_holds_another_pipeline_is_refused(
    database: str, tmp_path: Path, empty_database: str
) -> None:
    """With a line that says which CSV files it is for."""
    other = write_pipeline(tmp_path / "terms", "terms")
    ended = run_server("--once", str(other), DATABASE_URL=empty_database)
    assert ended.returncode == 0, ended.stderr
    for held, folder, sources in (
        (database, other, "compounds.csv, user_experiments.csv, users.csv"),
        (empty_database, PROJECT, "words.csv"),
        (database, SHOP, "compounds.csv, user_experiments.csv, users.csv"),
    ):
        ended = run_server(str(folder), PORT=0, DATABASE_URL=held)
        assert ended.returncode == 2
        line = ended.stderr.splitlines()[-1]
        assert line.startswith("the database features_test_")
        assert (
            f"holds another pipeline ({sources}) and not that of {folder}/sql" in line
        )


async def test_a_changed_schema_file_is_not_another_pipeline(
    start_service: StartService, empty_database: str, tmp_path: Path
) -> None:
    folder = write_pipeline(tmp_path / "words", "words")
    values = {"sql_dir": folder / "sql", "data_dir": folder / "data"}
    await start_service(**values, database=empty_database)
    with (folder / "sql/schema/001_words.sql").open("a") as file:
        file.write("-- changed\n")
    with pytest.raises(SqlFileError, match=r"schema/001_words\.sql was changed"):
        await start_service(**values, database=empty_database)


def test_starting_over_leaves_the_other_pipelines_alone(
    shared: Path, tmp_path: Path
) -> None:
    """The message for a changed schema file says which database to drop, and how."""
    folder = write_pipeline(tmp_path / "order", "order")
    run_once(shared, folder)
    with (folder / "sql/schema/001_words.sql").open("a") as file:
        file.write("-- changed\n")
    ended = run_server("--once", str(folder), STATE_DIR=shared)
    assert ended.returncode == 2
    said, _, advice = ended.stderr.partition("; or start over: stop the service and ")
    assert said.startswith("schema/001_words.sql was changed")
    assert advice == "run scripts/query.sh -c 'drop database \"order\"'\n"
    _, _, *arguments = shlex.split(advice)
    assert query(*arguments, STATE_DIR=shared).returncode == 0
    assert "run 1 succeeded" in run_once(shared, folder)


def test_query_says_that_nothing_is_loaded_and_creates_nothing(
    state: Path, tmp_path: Path, empty_database: str, database: str
) -> None:
    said = "nothing is loaded yet: ./run.sh --once"
    folder = write_pipeline(tmp_path / "one two", "one")
    quoted = f"{said} '{folder}'"

    def requires(says: str, *arguments: object, **settings: object) -> None:
        ended = query(*arguments, cwd=None, **settings)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{says}\n")

    requires(said, STATE_DIR=state)
    requires(said, "-c", "select 1", STATE_DIR=state)
    requires(quoted, folder, STATE_DIR=state)
    assert not state.exists()
    with running(state):
        assert databases(state) == ["postgres"]
        requires(said, STATE_DIR=state)
        requires(quoted, folder, STATE_DIR=state)
        requires(quoted, folder, "-c", "select 1", STATE_DIR=state)
        assert databases(state) == ["postgres"]
    for named in (empty_database, database):
        requires(said, DATABASE_URL=named)


def test_query_shows_any_pipeline(shared: Path, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "thirty", "thirty")
    words = [f"w{number:02}" for number in range(30, 0, -1)]
    (folder / "data" / "words.csv").write_text("\n".join(["word", *words]))
    run_once(shared, folder)
    ended = query(folder, STATE_DIR=shared)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["run_id", "|", "published_at", "|", "total_rows"]
    assert lines[2].split()[0] == "1"
    assert lines[2].split()[-1] == "30"
    assert lines[5].split() == ["word", "|", "pipeline"]
    assert [line.split()[0] for line in lines[7:27]] == sorted(words)[:20]
    assert lines[27] == "(20 rows)"


async def test_query_says_that_the_state_folder_is_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    settings = Settings(state_dir=closed / "state")
    message = f"^STATE_DIR: {closed}/state/postgres: Permission denied$"
    with files_of_owner(closed), pytest.raises(DatabaseError, match=message):
        async with serving_postgres(settings, create=False):
            pass


def test_query_refuses_a_folder_that_is_none(state: Path) -> None:
    ended = query("nowhere", "-c", "select 1", STATE_DIR=state)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"FOLDER: {PROJECT}/nowhere is not a folder")
    assert ended.stderr.count("\n") == 1
