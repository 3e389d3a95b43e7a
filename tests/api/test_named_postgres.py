"""A named Postgres: the oldest that is supported, by TCP, with a password.

The wheel carries PostgreSQL 16 beside 18. It writes WAL for logical replication, which
the embedded one does not.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from etl.postgres import folders
from etl.postgres.process import run_as
from etl.settings import Settings
from etl.sqlfiles import SqlFileError
from tests.support.client import Client, StartService, features, get, trigger

PASSWORD = "p @ss/w'rd"

#: What an administrator may have set, and the service must not depend on.
UNHELPFUL = """
alter role loader set statement_timeout = '250ms';
alter role loader set datestyle = 'SQL, DMY';
alter role loader set timezone = 'Asia/Tokyo';
alter role loader set default_transaction_isolation = 'serializable';
alter role loader set synchronous_commit = off;
alter role loader set extra_float_digits = -15;
alter role loader set standard_conforming_strings = off;
alter role loader set lc_monetary = 'C';
"""


@dataclass(frozen=True)
class Named:
    """A server, and the setting that names one of its databases."""

    port: int

    def environ(self, dbname: str, user: str = "loader") -> dict[str, str]:
        return {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.port),
            "DB_USER": user,
            "DB_PASS": PASSWORD,
            "DB_NAME": dbname,
        }

    def conninfo(self, dbname: str, user: str = "postgres") -> str:
        found = Settings.from_environ(self.environ(dbname, user)).database
        assert found is not None
        return found


@pytest.fixture(scope="module")
def named(state_folder: Path) -> Iterator[Named]:
    """PostgreSQL 16 with the roles postgres and loader, and two databases."""
    home = state_folder / "named"
    home.mkdir()
    # Copied with the libraries beside it, to where the server's user may go.
    package = folders.client_binaries().parent.parent
    libraries = f"{package.name}.libs"
    shutil.copytree(package / "pginstall", home / package.name / "pginstall")
    shutil.copytree(package.with_name(libraries), home / libraries)
    owner = folders.server_user(state_folder)
    if owner is not None:
        shutil.chown(home, owner)
    (home / "password").write_text(PASSWORD)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    binaries = home / package.name / "pginstall" / "bin"
    data = str(home / "data")
    command = [str(binaries / "initdb"), "-D", data, "-U", "postgres", "-E", "UTF8"]
    command += ["--no-locale", "--auth=scram-sha-256", f"--pwfile={home}/password"]
    run_as(command, owner)
    options = f"-p {port} -h 127.0.0.1 -k '' -c wal_level=logical -c fsync=off"
    control = [str(binaries / "pg_ctl"), "-D", data, "-w", "-l", f"{home}/log"]
    run_as([*control, "-o", options, "start"], owner)
    server = Named(port)
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("create role loader login createrole password " + _quoted())
        connection.execute("create database here owner loader")
        connection.execute("create database copied")
        connection.execute(UNHELPFUL.encode())
    yield server
    run_as([*control, "-m", "immediate", "stop"], owner)


def _quoted() -> str:
    return "'" + PASSWORD.replace("'", "''") + "'"


@pytest.fixture
async def service(start_service: StartService, named: Named) -> Client:
    database = Settings.from_environ(named.environ("here")).database
    return await start_service(database=database)


async def test_the_oldest_version_under_unhelpful_settings(
    service: Client, named: Named
) -> None:
    async with await AsyncConnection.connect(named.conninfo("here")) as connection:
        assert 160000 <= connection.info.server_version < 170000
    await trigger(service)
    rows = await features(service)
    assert [row["user_id"] for row in rows] == list(range(1, 11))
    assert rows[0]["experiments_pct"] == 2 / 11
    assert rows[0]["signup_date"] == "2023-01-01"
    async with service.get("/runs") as response:
        assert (await response.json())[0]["started_at"].endswith("+00:00")


async def test_a_role_needs_the_rights_that_the_readme_names(
    start_service: StartService, named: Named
) -> None:
    """``create`` on the database and on ``public``, and temporary tables."""
    login = f"create role modest login password {_quoted()}"
    async with await AsyncConnection.connect(
        named.conninfo("postgres"), autocommit=True
    ) as connection:
        await connection.execute(login.encode())
        await connection.execute("create database modest")
        await connection.execute("revoke all on database modest from public")
        rights = "grant connect, create, temporary on database modest to modest"
        await connection.execute(rights)
    database = Settings.from_environ(named.environ("modest", "modest")).database
    with pytest.raises(SqlFileError, match="permission denied for schema public"):
        await start_service(database=database)
    async with await AsyncConnection.connect(
        named.conninfo("modest"), autocommit=True
    ) as connection:
        await connection.execute("grant usage, create on schema public to modest")
    service = await start_service(database=database)
    await trigger(service)
    assert len(await features(service)) == 10


async def test_a_line_that_ends_copy_too_soon_is_seen(
    service: Client, data_dir: Path
) -> None:
    """Before version 18, COPY takes it for the end and the rest would be lost."""
    users = data_dir / "users.csv"
    text = users.read_text().replace("5,\tEve", '\\.\n5,\t"\n\\.\nEve"')
    users.write_text(text)
    answer = await trigger(service)
    assert [file["rejected"] for file in answer["run"]["files"]] == [0, 0, 1]
    (entry,) = await get(service, f"/runs/{answer['run']['id']}/rejects")
    assert (entry["line"], entry["reason"]) == (7, "field_count")
    names = [row["name"] for row in await features(service)]
    assert names[3:6] == ["Dave", "\n\\.\nEve", "Frank"]


async def test_logical_replication_follows_every_run(
    service: Client, named: Named, data_dir: Path
) -> None:
    await trigger(service)
    connect = AsyncConnection.connect
    here = await connect(named.conninfo("here"), autocommit=True)
    copied = await connect(named.conninfo("copied"), autocommit=True)
    async with here, copied:
        await here.execute("create publication of_features for table features")
        await here.execute("select pg_create_logical_replication_slot('s', 'pgoutput')")
        columns = await here.execute(
            "select string_agg(format('%I %s', name, type), ', ')"
            " from etl.feature_columns"
        )
        row = await columns.fetchone()
        assert row is not None
        await copied.execute(f"create table features ({row[0]})".encode())
        await copied.execute("alter table features add primary key (user_id)")
        source = named.conninfo("here").replace("'", "''")
        await copied.execute(
            f"create subscription s connection '{source}' publication of_features"
            " with (create_slot = false, slot_name = 's')".encode()
        )
        try:
            users = data_dir / "users.csv"
            users.write_text(users.read_text().replace("Alice", "Alicia"))
            await trigger(service)
            async with asyncio.timeout(30):
                while await _names(copied) != await _names(here):
                    await asyncio.sleep(0.05)
            assert (await _names(copied))[0] == ("Alicia",)
        finally:
            await copied.execute("drop subscription s")


async def _names(connection: AsyncConnection) -> list[tuple[str]]:
    rows = await connection.execute("select name from features order by user_id")
    return await rows.fetchall()
