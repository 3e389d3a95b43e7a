"""The engine's own tables and functions: what a start brings up to date."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable

from etl.postgres import migrations
from etl.postgres.database import DatabaseError, open_database
from etl.postgres.migrations import ENGINE_FUNCTIONS, ENGINE_SCHEMA, migrate
from etl.run.runs import MIGRATING
from etl.settings import PROJECT, Settings
from etl.sqlfiles import SqlFileError
from tests.support.client import Client, StartService, begun, trigger
from tests.support.locks import held_up


async def test_after_a_new_schema_file_all_functions_are_applied_again(
    connection: AsyncConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have dropped some of them."""
    tables = Path(shutil.copytree(ENGINE_SCHEMA, tmp_path / "tables"))
    monkeypatch.setattr(migrations, "ENGINE_SCHEMA", tables)
    (tables / "900_locks.sql").write_text("drop view etl.locks cascade;")
    await migrate(connection, PROJECT / "sql")
    await connection.execute("select from etl.metrics, etl.locks")


async def test_all_files_are_applied_or_none(
    empty_database: str, tmp_path: Path, sql_dir: Path
) -> None:
    (sql_dir / "schema" / "900_wrong.sql").write_text("select nothing;")
    async with await AsyncConnection.connect(empty_database, autocommit=True) as one:
        with pytest.raises(SqlFileError, match=r"^schema/900_wrong\.sql, line 1"):
            await migrate(one, sql_dir)
        found = await one.execute("select to_regnamespace('etl')")
        assert await found.fetchone() == (None,)


async def test_a_view_is_replaced_when_its_readers_are_done(
    connection: AsyncConnection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(
        "update etl.applied set sha256 = '' where file ~ 'reading'"
    )
    await connection.execute("begin")
    await connection.execute("select from etl.features_state")
    monkeypatch.setattr(migrations, "TRIES", 1)
    async with await AsyncConnection.connect(database, autocommit=True) as one:
        with pytest.raises(LockNotAvailable):
            await migrate(one, PROJECT / "sql")
        monkeypatch.setattr(migrations, "TRIES", 30)
        starting = asyncio.create_task(migrate(one, PROJECT / "sql"))
        await connection.execute("select pg_sleep(0.1)")
        await connection.execute("commit")
        await starting


async def test_functions_are_replaced_where_one_of_their_files_has_changed(
    connection: AsyncConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def versions() -> list[tuple[str, str]]:
        rows = await connection.execute(
            "select proname, xmin::text from pg_proc"
            " where pronamespace = 'etl'::regnamespace order by 1"
        )
        return await rows.fetchall()

    before = await versions()
    await migrate(connection, PROJECT / "sql")
    assert await versions() == before
    functions = Path(shutil.copytree(ENGINE_FUNCTIONS, tmp_path / "functions"))
    monkeypatch.setattr(migrations, "ENGINE_FUNCTIONS", functions)
    with (functions / "040_rules.sql").open("a") as file:
        file.write("create function etl.one_more() returns integer return 1;\n")
    await migrate(connection, PROJECT / "sql")
    changed = {name for name, _ in set(await versions()) - set(before)}
    text = (functions / "040_rules.sql").read_text()
    assert changed == set(re.findall(r"function etl\.(\w+)", text))
    await migrate(connection, PROJECT / "sql")


async def outdate(connection: AsyncConnection) -> None:
    """Have the next start replace functions."""
    await connection.execute(
        "update etl.applied set sha256 = ''"
        " where folder = 'functions' and file ~ 'rules'"
    )


async def test_a_start_that_changes_the_schema_waits_for_a_run(
    client: Client,
    connection: AsyncConnection,
    database: str,
    start_service: StartService,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await outdate(connection)
    async with held_up(connection):
        running = asyncio.create_task(trigger(client))
        await begun(client)
        starting = asyncio.create_task(start_service())
        async with await AsyncConnection.connect(database, autocommit=True) as one:
            async with asyncio.timeout(20):
                while await waiting_for_advisory_lock(one) == 0:
                    await asyncio.sleep(0.01)
            other_run = await trigger(client, 409)
            assert other_run["run"]["state"] == "running"
            applied = await one.execute("select from etl.applied where sha256 = ''")
            assert await applied.fetchall()
    await running
    other = await starting
    applied = await connection.execute("select from etl.applied where sha256 = ''")
    assert not await applied.fetchall()
    message = "waiting up to 600 s for the end of the run in progress"
    assert message in caplog.text
    await trigger(other)
    await trigger(client)


async def waiting_for_advisory_lock(connection: AsyncConnection) -> int:
    found = await connection.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        " and database = (select oid from pg_database where datname ="
        " current_database())"
    )
    (count,) = await found.fetchone() or (0,)
    return int(count)


async def test_a_start_waits_for_a_run_with_a_bound(
    client: Client,
    connection: AsyncConnection,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(migrations, "WAIT_SECONDS", 1)
    await outdate(connection)
    async with held_up(connection):
        running = asyncio.create_task(trigger(client))
        await begun(client)
        message = (
            "the schema is to be changed, and the run in progress has not ended within"
            " 1 s: start again when it has"
        )
        with pytest.raises(DatabaseError, match=f"database features_test.*: {message}"):
            async with open_database(settings):
                pass
    await running


async def test_a_start_with_nothing_to_change_waits_for_nobody(
    client: Client, connection: AsyncConnection, start_service: StartService
) -> None:
    async with held_up(connection):
        running = asyncio.create_task(trigger(client))
        await begun(client)
        await connection.execute("select pg_advisory_lock(%s, %s)", migrations.LOCK)
        other = await start_service()
        assert (await begun(other))["id"] == 1
    await running


async def test_a_run_waits_while_the_schema_is_changed(
    client: Client, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = [*migrations.LOCK, *migrations.RUN_LOCK]
    take = "select pg_advisory_lock(%s, %s), pg_advisory_lock(%s, %s)"
    give_back = "select pg_advisory_unlock(%s, %s), pg_advisory_unlock(%s, %s)"
    await connection.execute(take, locks)
    answer = await trigger(client, 503)
    assert answer["result"] == MIGRATING
    async with client.get("/metrics") as response:
        assert "etl_runs_under_way 0.0" in (await response.text()).splitlines()
    assert answer["run"] is None
    monkeypatch.setattr("etl.run.runs.BEGIN_TRIES", 1000)
    running = asyncio.create_task(trigger(client))
    await asyncio.wait([running], timeout=0.2)
    assert not running.done()
    await connection.execute(give_back, locks)
    assert (await running)["run"]["id"] == 1
