"""features stays an ordinary table, in every use, across every run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from psycopg import AsyncConnection, IsolationLevel

from tests.support.client import Client, trigger
from tests.support.databases import run_program

USES = """
create view best as select user_id, total_experiments from features;
create unique index on features (email);
create table notes (
    user_id bigint references features deferrable, note text
);
create table audit (user_id bigint);
create function note_change() returns trigger language plpgsql as
$$ begin insert into audit values (new.user_id); return null; end $$;
create trigger noted after insert on features
for each row execute function note_change();
grant select on features to pg_monitor;
comment on table features is 'ours';
create publication features_changes for table features;
"""


async def test_what_hangs_on_the_table_survives(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    identity = await _one(connection, "select 'features'::regclass::oid")
    await connection.execute(USES.encode())
    await connection.execute("insert into notes values (1, 'kept')")
    await trigger(client, full="true")
    await trigger(client, full="true")
    assert await _one(connection, "select count(*) from best") == 10
    assert await _one(connection, "select count(*) from audit") == 20
    assert await _one(connection, "select note from notes") == "kept"
    allowed = "has_table_privilege('pg_monitor', 'features', 'select')"
    assert await _one(connection, f"select {allowed}") is True
    words = "obj_description('features'::regclass)"
    assert await _one(connection, f"select {words}") == "ours"
    indexes = "select count(*) from pg_indexes where tablename = 'features'"
    assert await _one(connection, indexes) == 2
    now = await _one(connection, "select 'features'::regclass::oid")
    assert now == identity


async def test_psql_copy_and_pg_dump(client: Client, database: str) -> None:
    for _ in range(2):
        await trigger(client, full="true")
        copied = run_program("psql", database, "-c", r"\copy features to stdout")
        assert len(copied.splitlines()) == 10
        assert "1\tAlice\talice@example.com\t2023-01-01\t2\t1.1\t" in copied
        dumped = run_program("pg_dump", database, "--table", "features")
        assert "10\tJudy\tjudy@example.com" in dumped


async def test_a_snapshot_reads_the_same_rows_across_a_run(
    client: Client, database: str, data_dir: Path
) -> None:
    await trigger(client)
    reader = await AsyncConnection.connect(database)
    async with reader:
        await reader.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        before = await _rows(reader)
        users = data_dir / "users.csv"
        users.write_text(users.read_text().replace("Alice", "Alicia"))
        await trigger(client)
        assert await _rows(reader) == before
        await reader.commit()
        assert (await _rows(reader))[0][1] == "Alicia"


async def test_readers_see_the_old_rows_or_the_new(
    client: Client, database: str
) -> None:
    await trigger(client)
    stop = asyncio.Event()

    async def read() -> int:
        seen = 0
        async with await AsyncConnection.connect(database, autocommit=True) as reader:
            while not stop.is_set():
                assert len(await _rows(reader)) == 10
                seen += 1
        return seen

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for _ in range(10):
        await trigger(client, full="true")
    stop.set()
    assert all(seen > 0 for seen in await asyncio.gather(*readers))


async def test_a_plain_foreign_key_is_named_in_the_error(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    await connection.execute(
        "create table notes (user_id bigint constraint of_user references features)"
    )
    await connection.execute("insert into notes values (1)")
    failed = await trigger(client, 422, full="true")
    assert 'foreign key constraint "of_user"' in failed["result"]
    assert "must be deferrable" in failed["result"]
    assert await _one(connection, "select count(*) from features") == 10


async def _one(connection: AsyncConnection, query: str) -> object:
    row = await (await connection.execute(query.encode())).fetchone()
    return row[0] if row else None


async def _rows(connection: AsyncConnection) -> list[tuple[object, ...]]:
    cursor = await connection.execute("select * from features order by user_id")
    return await cursor.fetchall()
