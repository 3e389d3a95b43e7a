"""A named Postgres: the oldest that is supported, by TCP, with a password.

The wheel carries PostgreSQL 16 beside 18. It writes WAL for logical replication, which
the embedded one does not.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from etl.api.app_keys import DATABASE
from etl.settings import Settings
from etl.sqlfiles import SqlFileError
from tests.support.client import (
    Client,
    StartService,
    app_of,
    features,
    get,
    trigger,
)
from tests.support.named import open_named
from tests.support.tcpserver import TcpServer, quoted, tcp_server

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


@pytest.fixture(scope="module")
def named(state_folder: Path) -> Iterator[TcpServer]:
    """PostgreSQL 16 with the roles postgres and loader, and two databases."""
    with tcp_server(state_folder, "wal_level=logical") as server:
        server.create_role("loader", "createrole")
        superuser = server.conninfo("postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute("create database here owner loader")
            connection.execute("create database copied")
            connection.execute(UNHELPFUL.encode())
        yield server


@pytest.fixture
async def service(start_service: StartService, named: TcpServer) -> Client:
    database = Settings.from_environ(named.environ("here", "loader")).database
    return await start_service(database=database)


async def test_the_oldest_version_under_unhelpful_settings(
    service: Client, named: TcpServer
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


async def test_a_connection_that_is_lost_on_the_way_ends_on_both_sides(
    service: Client,
) -> None:
    """A firewall that drops it tells neither: the kernel of each asks, or gives up."""
    database = app_of(service)[DATABASE]
    for pool in (database.readers, database.runners):
        async with pool.connection() as connection:
            with socket.socket(fileno=os.dup(connection.fileno())) as link:
                keeps = link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                lost = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert (bool(keeps), idle, lost) == (True, 10, 60_000)
            rows = await connection.execute(
                "select current_setting('tcp_keepalives_idle'),"
                " current_setting('tcp_user_timeout')"
            )
            here = ("10", "60000") if pool is database.runners else ("7200", "0")
            assert await rows.fetchone() == here


async def test_a_role_needs_the_rights_that_the_readme_names(
    start_service: StartService, named: TcpServer
) -> None:
    """``create`` on the database and on ``public``, and temporary tables."""
    named.create_role("modest")
    async with await AsyncConnection.connect(
        named.conninfo("postgres"), autocommit=True
    ) as connection:
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


def test_the_suite_needs_a_role_that_may_create_databases(named: TcpServer) -> None:
    with pytest.raises(pytest.UsageError, match="loader may not create databases on"):
        open_named(named.conninfo("here", "loader"))


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
    service: Client, named: TcpServer, data_dir: Path
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
        source = quoted(named.conninfo("here"))
        await copied.execute(
            f"create subscription s connection {source} publication of_features"
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
