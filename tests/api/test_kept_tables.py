"""What a run keeps of earlier ones is there: whatever changed the tables meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from tests.support.client import (
    Client,
    StartService,
    features,
    trigger,
)
from tests.support.databases import Postgres
from tests.support.disturbances import crash, full_run_beside

Rows = list[dict[str, Any]]

TABLE = """-- For a test: a table more that the build fills.
create unlogged table {name} (total bigint not null);
insert into etl.built_tables (target) values ('{name}');
"""

GUEST = """-- For a test: a row more, into {table}.
-- reads:  totals_next
-- writes: {table}
insert into {table} (user_id, total_experiments, avg_experiments, experiments_pct)
select 99, 0, 0, 0 from totals_next;
"""

COUNT = """-- For a test: fills {name}.
-- reads:  staging.users
-- writes: {name}
insert into {name} (total) select count(*) from staging.users;
"""

READ = """-- For a test: reads {name}.
-- reads:  {name}
-- writes: features_next
insert into features_next (user_id, total_experiments, avg_experiments, experiments_pct)
select 99, {name}.total, 0, 0 from {name};
"""


async def run_and_compare(client: Client) -> Rows:
    """The rows after a run, which a full one leaves as well."""
    await trigger(client)
    rows = await features(client)
    await trigger(client, full="true")
    assert await features(client) == rows
    return rows


async def test_a_file_that_no_longer_writes_to_a_table(
    start_service: StartService, sql_dir: Path
) -> None:
    """What it has written there goes, though the other file there is as it was."""
    (sql_dir / "schema" / "004_guests.sql").write_text(
        "-- For a test: a table like features_next.\n"
        "create unlogged table guests_next (like features_next);\n"
        "insert into etl.built_tables (target) values ('guests_next');\n"
    )
    file = sql_dir / "build" / "040_guest.sql"
    file.write_text(GUEST.format(table="features_next"))
    client = await start_service(sql_dir=sql_dir)
    assert len(await run_and_compare(client)) == 11
    file.write_text(GUEST.format(table="guests_next"))
    assert len(await run_and_compare(client)) == 10


async def test_a_table_that_no_file_writes_to_any_more_is_empty(
    start_service: StartService, sql_dir: Path
) -> None:
    """Also where the run that last filled it has failed before its build ended."""
    name = "counts_next"
    (sql_dir / "schema" / "004_counts.sql").write_text(TABLE.format(name=name))
    counts, reads = sql_dir / "build/032_count.sql", sql_dir / "build/034_read.sql"
    reads.write_text(READ.format(name=name))
    counts.write_text(COUNT.format(name=name))
    fails = sql_dir / "build/036_fails.sql"
    fails.write_text("-- For a test: fails.\n-- reads: staging.users\nselect oops;\n")
    client = await start_service(sql_dir=sql_dir)
    await trigger(client, 500)
    counts.unlink()
    fails.unlink()
    assert len(await run_and_compare(client)) == 10


async def test_a_table_that_is_built_may_be_called_engine(
    start_service: StartService, sql_dir: Path
) -> None:
    """A file that reads it runs again when it has changed."""
    name = "engine"
    (sql_dir / "schema" / "004_named.sql").write_text(TABLE.format(name=name))
    (sql_dir / "build/032_count.sql").write_text(COUNT.format(name=name))
    (sql_dir / "build/034_read.sql").write_text(READ.format(name=name))
    (sql_dir / "check" / "030_shares_add_up_to_one.sql").unlink()
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    (sql_dir / "build/032_count.sql").write_text(
        COUNT.format(name=name).replace("count(*)", "2 * count(*)")
    )
    await run_and_compare(client)


@pytest.mark.plain_postgres("nothing notes who writes to a distributed table")
@pytest.mark.parametrize("next_run", ["dry_run", "failed"])
async def test_rows_of_others_that_were_published_are_replaced(
    client: Client,
    connection: AsyncConnection,
    database: str,
    data_dir: Path,
    next_run: str,
) -> None:
    """Also where the next run, which sees the note of them, publishes nothing."""
    await trigger(client)
    before = await features(client)
    statement = "update staging.users set name = 'Hand'"
    await full_run_beside(client, connection, database, statement)
    assert await features(client) != before
    if next_run == "dry_run":
        await trigger(client, dry_run="true")
    else:
        users = (data_dir / "users.csv").rename(data_dir / "users.old")
        await trigger(client, 422)
        users.rename(data_dir / "users.csv")
    await trigger(client)
    assert await features(client) == before


@pytest.mark.plain_postgres("the nodes keep their rows")
async def test_rows_written_by_hand_after_a_crash(
    client: Client, connection: AsyncConnection, postgres: Postgres
) -> None:
    """A crash empties unlogged tables, and sets the counters of writes back: as many
    may be counted again as were before.
    """
    if not postgres.is_superuser:
        pytest.skip("only a superuser resets statistics")
    await trigger(client)
    before = await features(client)
    await crash(connection)
    await connection.execute("update features set name = 'Hand'")
    await connection.execute("select pg_stat_force_next_flush()")
    await trigger(client)
    assert await features(client) == before


async def test_columns_of_features_that_were_changed_by_hand(
    client: Client, connection: AsyncConnection
) -> None:
    """No row was written, as the server counts them, and yet they are others."""
    await trigger(client)
    before = await features(client)
    await connection.execute("alter table features drop column name")
    await connection.execute("alter table features add column name text")
    await trigger(client)
    assert await features(client) == before


async def test_what_sql_files_leave_in_a_session_is_gone_in_the_next_run(
    start_service: StartService, sql_dir: Path
) -> None:
    """Runs use the same few connections again."""
    (sql_dir / "build" / "005_session.sql").write_text(
        "-- For a test: makes and sets what lasts as long as the session does.\n"
        "-- runs:   always\n-- reads:  staging.users\n-- writes: totals_next\n"
        "create temporary table seen as select current_setting('work_mem') as size;\n"
        "create function pg_temp.one() returns integer language sql as 'select 1';\n"
        "select 1 / (size = '64MB')::integer from seen;\n"
        "set work_mem = '65MB';\n"
        "prepare seen_sizes as select size from seen;\n"
    )
    client = await start_service(sql_dir=sql_dir)
    for _ in range(8):
        await trigger(client)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("clean/060_prepared.sql", "-- rejects: users.name\n-- reason: prepared\n"),
        ("check/090_prepared.sql", ""),
    ],
)
async def test_no_sql_file_is_prepared(
    start_service: StartService, sql_dir: Path, path: str, header: str
) -> None:
    """Its plan would be one for the rows of an earlier run, which may be few."""
    (sql_dir / path).write_text(
        f"-- For a test: all users, if its session has prepared it.\n{header}"
        "select name, 'is prepared' as message from staging.users where exists ("
        "select 1 from pg_prepared_statements where statement like '%For a test%');"
    )
    client = await start_service(sql_dir=sql_dir)
    for _ in range(12):
        await trigger(client)


@pytest.mark.parametrize(
    "statement",
    ["delete from notes_1", "alter table staging.notes detach partition notes_1"],
)
async def test_a_partition_that_was_changed_by_hand(
    start_service: StartService,
    connection: AsyncConnection,
    sql_dir: Path,
    data_dir: Path,
    statement: str,
) -> None:
    (sql_dir / "schema" / "004_notes.sql").write_text(
        "create table staging.notes (a bigint not null) partition by list (a);"
        "create unlogged table notes_1 partition of staging.notes for values in (1);"
        "create unlogged table notes_2 partition of staging.notes default;"
    )
    (data_dir / "notes.csv").write_text("a\n1\n2\n")
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    loads = [file["load"] for file in (await trigger(client))["run"]["files"]]
    assert loads[1:2] == ["kept"]
    await connection.execute(statement.encode())
    run = (await trigger(client))["run"]
    assert run["files"][1]["load"] == "loaded"
    found = await connection.execute("select count(*) from staging.notes")
    assert await found.fetchone() == (2,)


async def test_partitions_in_staging_have_no_files(
    start_service: StartService,
    connection: AsyncConnection,
    sql_dir: Path,
    data_dir: Path,
) -> None:
    (sql_dir / "schema" / "004_notes.sql").write_text(
        "create table staging.notes (a bigint not null) partition by list (a);"
        "create unlogged table staging.notes_1 partition of staging.notes default;"
    )
    (data_dir / "notes.csv").write_text("a\n1\n2\n")
    client = await start_service(sql_dir=sql_dir)
    run = (await trigger(client))["run"]
    assert [file["file"] for file in run["files"]][:2] == ["compounds.csv", "notes.csv"]
    found = await connection.execute("select count(*) from staging.notes_1")
    assert await found.fetchone() == (2,)
