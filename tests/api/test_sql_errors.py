"""Messages about a wrong SQL file: its name, line, column, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import AsyncConnection

from etl.sqlfiles import SqlFileError
from tests.support.client import StartService, features, trigger

#: A file of a phase, its text, the status, and the error after the file's name.
WRONG: list[tuple[str, str, int, str]] = [
    (
        "build/900_longest.sql",
        "-- The longest run of each user.\n"
        "update features_next set user_id = experiments.user_id\n"
        "from staging.user_experiments as experiments\n"
        "where experiment_runtime > 0;\n",
        500,
        ', line 4, column 7: column "experiment_runtime" does not exist. Perhaps you '
        'meant to reference the column "experiments.experiment_run_time".',
    ),
    (
        "build/900_second_statement.sql",
        "select 1;\n\nselect 'é😀', nothing;\n",
        500,
        ', line 3, column 14: column "nothing" does not exist',
    ),
    (
        "build/900_windows.sql",
        "\ufeff-- Written on Windows.\r\nselect 1;\r\nselect nothing;\r\n",
        500,
        ', line 3, column 8: column "nothing" does not exist',
    ),
    (
        "build/900_slices.sql",
        "select current_setting('etl.slices')\nfrom nowhere;",
        500,
        ', line 2, column 6: relation "nowhere" does not exist',
    ),
    (
        "build/900_end.sql",
        "select (1\n\n",
        500,
        ", line 1, column 10: syntax error at end of input",
    ),
    (
        "build/900_quote.sql",
        f"select 'abc\nfrom {'x' * 1000};\n",
        500,
        f""", line 1, column 8: unterminated quoted string at or near "'abc from """
        f"{'x' * 251}…",
    ),
    (
        "build/900_block.sql",
        "-- A block.\ndo $$\nbegin\n    perform nothing from features;\nend\n$$;\n",
        500,
        ', line 4: column "nothing" does not exist',
    ),
    (
        "build/900_blocks.sql",
        "do $$ begin end $$;\ndo $$ begin raise 'Stop' using hint = 'Go'; end $$;\n",
        500,
        ": Stop. Go (in PL/pgSQL function inline_code_block line 1 at RAISE)",
    ),
    (
        "build/900_function.sql",
        "create or replace function pg_temp.share(total bigint) returns bigint\n"
        "language plpgsql as $$\nbegin\n    return 1 / total;\nend\n$$;\n"
        "select pg_temp.share(0);\n",
        422,
        ": division by zero (in PL/pgSQL function pg_temp_N.share(bigint) line 3 at "
        "RETURN)",
    ),
    (
        "build/900_body.sql",
        "select 1;\ncreate function pg_temp.one() returns bigint\nlanguage sql as $$\n"
        "    select nothing;\n$$;\n",
        500,
        ', line 4, column 12: column "nothing" does not exist',
    ),
    ("build/900_zero.sql", "select 1;\nselect 1 / 0;", 422, ": division by zero"),
    (
        "build/900_null.sql",
        "create temporary table kept (number bigint not null);\n"
        "insert into kept values (null);",
        422,
        ': null value in column "number" of relation "kept" violates not-null '
        "constraint. Failing row contains (null).",
    ),
    (
        "build/900_at_the_end.sql",
        "create temporary table kept (number bigint unique deferrable initially "
        "deferred);\ninsert into kept values (1), (1);",
        422,
        ': duplicate key value violates unique constraint "kept_number_key". Key '
        "(number)=(1) already exists.",
    ),
    (
        "build/900_size.sql",
        "select repeat('x', 2000000000);",
        422,
        ": requested length too large",
    ),
    (
        "build/900_vacuum.sql",
        "select 1;\nvacuum features;",
        500,
        ": VACUUM cannot run inside a transaction block",
    ),
    (
        "build/900_locking.sql",
        "select distinct user_id from features for update;",
        500,
        ": FOR UPDATE is not allowed with DISTINCT clause",
    ),
    (
        "build/900_copy_out.sql",
        "copy features to stdout;",
        500,
        ": a SQL file cannot copy from stdin or to stdout",
    ),
    (
        "build/900_copy_in.sql",
        "select 1;\ncopy features_next from stdin;",
        500,
        ": a SQL file cannot copy from stdin or to stdout",
    ),
    (
        "build/900_nothing.sql",
        "-- To do; /* nothing yet */\n;\n",
        500,
        " holds no statement: remove it, or fill it",
    ),
    (
        "check/900_typo.sql",
        "select *\nfrom feature_next;",
        500,
        ', line 2, column 6: relation "feature_next" does not exist',
    ),
    (
        "clean/900_typo.sql",
        "-- rejects: users.user_id\n-- reason: any\n"
        "select user_id, '' as message from staging.user;",
        500,
        ', line 3, column 36: relation "staging.user" does not exist',
    ),
    (
        "clean/900_column.sql",
        "-- rejects: users.id\n-- reason: any\n"
        "select user_id, '' as message from staging.users;",
        500,
        ": column found.id does not exist",
    ),
]


@pytest.mark.parametrize(
    ("path", "text", "status", "error"), WRONG, ids=[path for path, *_ in WRONG]
)
async def test_an_error_of_a_run_says_where_it_is(
    start_service: StartService,
    sql_dir: Path,
    path: str,
    text: str,
    status: int,
    error: str,
) -> None:
    """And the service goes on."""
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    (sql_dir / path).write_bytes(text.encode())
    answer = await trigger(client, status)
    if "_N." in error or "line N" in error:
        before, after = error.replace("_N.", "\0").replace("line N", "\0").split("\0")
        assert answer["result"].startswith(f"{path}{before}")
        assert answer["result"].endswith(after)
    else:
        assert answer["result"] == f"{path}{error}"
    assert answer["run"]["error"] == answer["result"]
    assert answer["run"]["state"] == "failed"
    assert len(await features(client)) == 10
    (sql_dir / path).unlink()
    await trigger(client)


CHARTS = [
    (
        "-- title: Wrong\nselect name as label, 1 as valeu from featurs;",
        'charts/900_wrong.sql, line 2, column 39: relation "featurs" does not exist',
    ),
    (
        "select name as label,\n  user_ids as value\nfrom features;",
        'charts/900_wrong.sql, line 2, column 3: column "user_ids" does not exist. '
        'Perhaps you meant to reference the column "features.user_id".',
    ),
    (
        "select 'a' as label, 1 / 0 as value;",
        "charts/900_wrong.sql: division by zero",
    ),
    (
        "select repeat('a', 2000000000) as label, 1 as value;",
        "charts/900_wrong.sql: requested length too large",
    ),
    ("copy features to stdout;", "charts/900_wrong.sql: a chart is one query"),
    ("-- nothing", "charts/900_wrong.sql: a chart is one query"),
]


@pytest.mark.parametrize(("text", "error"), CHARTS)
async def test_an_error_of_a_chart_says_where_it_is(
    start_service: StartService, sql_dir: Path, text: str, error: str
) -> None:
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    (sql_dir / "charts" / "900_wrong.sql").write_text(text)
    for _ in range(2):
        async with client.get("/charts/900_wrong") as response:
            assert response.status == 500
            assert (await response.json())["detail"].startswith(error)


SCHEMAS = [
    (
        "select 1;\nalter table features add column x bigit;",
        'schema/007_wrong.sql, line 2, column 35: type "bigit" does not exist',
    ),
    (
        "create table features (id bigint);",
        'schema/007_wrong.sql: relation "features" already exists',
    ),
    (
        "copy features from stdin;",
        "schema/007_wrong.sql: a SQL file cannot copy from stdin or to stdout",
    ),
    ("-- later", "schema/007_wrong.sql holds no statement: remove it, or fill it"),
    (
        "drop table features_next;",
        "this database has no table features_next: the schema files of a pipeline make "
        "the schema staging, with a table for each CSV file, and the tables features "
        "and features_next",
    ),
]


@pytest.mark.parametrize(("text", "error"), SCHEMAS)
async def test_an_error_of_a_schema_file_says_where_it_is(
    start_service: StartService,
    sql_dir: Path,
    connection: AsyncConnection,
    text: str,
    error: str,
) -> None:
    """And nothing of it stays."""
    path = sql_dir / "schema" / "007_wrong.sql"
    path.write_text(text)
    with pytest.raises(SqlFileError) as raised:
        await start_service(sql_dir=sql_dir)
    assert str(raised.value) == error
    path.write_text("create table right_one ();")
    await trigger(await start_service(sql_dir=sql_dir))
    await connection.execute("select from right_one")


async def test_the_first_schema_files_count_together_or_not_at_all(
    start_service: StartService, sql_dir: Path, empty_database: str
) -> None:
    """So that none of them is frozen before all are right."""
    first = sql_dir / "schema" / "001_staging.sql"
    last = sql_dir / "schema" / "003_activity.sql"
    text = last.read_text()
    last.write_text("select nothing;")
    with pytest.raises(SqlFileError, match=r"^schema/003_activity\.sql, line 1"):
        await start_service(sql_dir=sql_dir, database=empty_database)
    first.write_text(f"{first.read_text()}-- another word\n")
    last.write_text(text)
    await trigger(await start_service(sql_dir=sql_dir, database=empty_database))


async def test_schema_files_that_make_nothing_are_refused(
    start_service: StartService, sql_dir: Path, empty_database: str
) -> None:
    for folder in ("schema", "citus"):
        for file in (sql_dir / folder).iterdir():
            file.unlink()
    (sql_dir / "schema" / "001_wrong.sql").write_text(
        "create table feature (id bigint primary key);"
    )
    with pytest.raises(SqlFileError) as raised:
        await start_service(sql_dir=sql_dir, database=empty_database)
    assert str(raised.value).startswith(
        "this database has no schema staging and no table features and no table "
        "features_next: the schema files of a pipeline make the schema staging"
    )


async def test_a_schema_file_may_set_the_search_path(
    start_service: StartService, sql_dir: Path
) -> None:
    """As those of pg_dump do."""
    (sql_dir / "schema" / "007_path.sql").write_text(
        "select pg_catalog.set_config('search_path', '', false);"
    )
    await trigger(await start_service(sql_dir=sql_dir))


async def test_a_table_that_is_gone_stops_a_start(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await connection.execute("drop table features")
    with pytest.raises(SqlFileError, match="has no table features: the schema files"):
        await start_service()
