"""Roles: those that scripts/roles.sql makes, and the one that reads.

On PostgreSQL 16, in a database that belongs to a superuser, as the service would be
run in a company's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege

from etl.api.app_keys import DATABASE
from etl.settings import PROJECT, Settings
from tests.support.client import Client, StartService, features, get, trigger
from tests.support.databases import run_program
from tests.support.tables import FILL
from tests.support.tcpserver import PASSWORD, TcpServer, quoted, tcp_server

ROLES = PROJECT / "scripts/roles.sql"

#: What belongs to somebody else than the owner, of all that is in the database.
OTHERS = """
    select oid::regclass::text
    from pg_class
    where
        relnamespace::regnamespace::text in ('public', 'etl', 'staging', 'appended')
        and relowner <> to_regrole('features_owner')
    union all
    select nspname
    from pg_namespace
    where
        nspname in ('etl', 'staging', 'appended')
        and nspowner <> to_regrole('features_owner')
"""

#: Statements that write, each in its way.
WRITES = (
    "insert into etl.published (run_id) values (1)",
    "update features set name = ''",
    "delete from staging.users",
    "truncate features",
    "create table public.mine (id integer)",
    "drop table features",
    "alter table features add column mine integer",
    "select etl.begin_run(false, false, false)",
    "copy features to program 'true'",
)


@pytest.fixture(scope="module")
def server(state_folder: Path) -> Iterator[TcpServer]:
    with tcp_server(state_folder) as server:
        yield server


@pytest.fixture(scope="module")
def shared(server: TcpServer) -> str:
    """The connection string of a superuser to a database with the roles."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("create database lab")
        connection.execute("revoke all on database lab from public")
    run_roles(server.conninfo("lab"))
    run_roles(server.conninfo("lab"))  # again, which changes nothing
    with psycopg.connect(server.conninfo("lab"), autocommit=True) as connection:
        login = f"alter role features_service password {quoted(PASSWORD)}"
        connection.execute(login.encode())
    return server.conninfo("lab")


def run_roles(conninfo: str) -> None:
    run_program("psql", conninfo, "-v", "ON_ERROR_STOP=1", "-q", "-f", str(ROLES))


@pytest.fixture
async def service(
    start_service: StartService, server: TcpServer, shared: str
) -> Client:
    environ = server.environ("lab", "features_service")
    return await start_service(database=Settings.from_environ(environ).database)


async def test_the_service_owns_nothing_and_readers_write_nothing(
    service: Client, shared: str
) -> None:
    await trigger(service)
    await trigger(service)
    assert len(await features(service)) == 10
    for path in ("/runs", "/charts", "/files", "/features?facet=signup_date"):
        await get(service, path)
    async with await AsyncConnection.connect(shared, autocommit=True) as connection:
        rows = await connection.execute(OTHERS)
        assert await rows.fetchall() == []
        rows = await connection.execute(
            "select rolsuper from pg_roles where rolname = 'features_service'"
        )
        assert await rows.fetchone() == (False,)
    await _write_nothing(service)


async def _write_nothing(service: Client) -> None:
    """What answers requests cannot write, also where it does not say so itself."""
    database = service.app[DATABASE]
    async with database.readers.connection() as connection:
        await connection.execute("set default_transaction_read_only to off")
        for statement in WRITES:
            with pytest.raises(InsufficientPrivilege):
                await connection.execute(statement.encode())
                pytest.fail(statement)


async def test_people_may_be_readers(
    service: Client, server: TcpServer, shared: str
) -> None:
    """They may read what later runs make, too."""
    await trigger(service)
    server.create_role("analyst")
    with psycopg.connect(shared, autocommit=True) as connection:
        connection.execute("grant features_reader to analyst")
    with psycopg.connect(server.conninfo("lab", "analyst")) as connection:
        rows = connection.execute("select count(*) from features").fetchone()
        assert rows == (10,)
        assert connection.execute("select 1 from etl.runs").fetchone() == (1,)


async def test_the_embedded_postgres_has_a_reader(
    start_service: StartService, state_folder: Path
) -> None:
    """It logs in as itself, so nothing that it sends makes it another one."""
    service = await start_service(database=None, state_dir=state_folder / "reader")
    await trigger(service)
    assert len(await features(service)) == 10
    await _write_nothing(service)
    database = service.app[DATABASE]
    async with database.readers.connection() as connection:
        with pytest.raises(InsufficientPrivilege):
            await connection.execute("set role postgres")


async def test_what_is_sorted_for_a_request_does_not_fill_the_disk(
    start_service: StartService, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files are on the disk that a run and the log of Postgres need too."""
    monkeypatch.setattr("etl.postgres.database.TEMPORARY_PART", 1 << 60)
    service = await start_service(database=None, state_dir=state_folder / "small")
    database = service.app[DATABASE]
    async with database.runners.connection() as connection:
        await connection.execute(FILL)
    async with service.get("/features?order=name.desc&format=csv") as response:
        assert response.status == 504
        assert "ask for less" in await response.text()
    async with service.get("/features?order=name.desc&limit=10") as response:
        assert response.status == 200
    async with database.runners.connection() as connection:
        rows = await connection.execute("show temp_file_limit")
        assert await rows.fetchone() == ("-1",)
