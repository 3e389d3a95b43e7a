"""Loading through the nodes of a Citus, and what happens when one of them is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection, Connection
from psycopg.errors import ObjectNotInPrerequisiteState, QueryCanceled

from etl.run.nodes import ADMITTED, SETTINGS, admit_loaders
from tests.support.citus import Citus
from tests.support.client import StartService, features, get, trigger
from tests.support.databases import new_database

#: A host that nobody listens on, as its folder of sockets does not exist. The port is
#: the coordinator's, so that what connects there instead is noticed.
NO_NODE = """
create or replace function etl.shard_nodes() returns table (host text, port integer)
language sql as $$ select '/no/node', inet_server_port() $$
"""

#: As where all nodes are inactive, or are to hold no shards.
NO_NODES = """
create or replace function etl.shard_nodes() returns table (host text, port integer)
language sql as $$ select '', 0 where false $$
"""

#: What a crash does to the unlogged tables of a node.
CRASH = "select success from run_command_on_workers('truncate etl.loading')"

LOADERS = """
select sum(result::integer) from run_command_on_all_nodes(
    'select count(*) from pg_stat_activity where datname = current_database()'
    ' and application_name = ''features-etl load'' '
)
"""


@pytest.fixture
def named(citus: Citus) -> Iterator[str]:
    with new_database(citus) as database:
        yield database


@pytest.fixture
def connection(named: str) -> Iterator[Connection]:
    with psycopg.connect(named, autocommit=True) as opened:
        yield opened


async def test_nodes_load_what_the_coordinator_loads(
    named: str,
    connection: Connection,
    data_dir: Path,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In small blocks, with records that take the slow path, and a bad one."""
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write('901,1,"1;2",3\n902,1,3 ; 4,5\n903,x,1,1\n904,2,5,6\n')
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda workers: 64)
    left = []
    for way in ("nodes", "coordinator"):
        client = await start_service(
            data_dir=data_dir, database=named, load_through=way, load_workers=3
        )
        run = (await trigger(client, full="true"))["run"]
        left.append((run["files"], await features(client)))
        await client.close()
    assert left[0] == left[1]
    assert connection.execute(LOADERS).fetchone() == (0,)


async def test_an_unreachable_node_is_named(
    named: str, connection: Connection, start_service: StartService
) -> None:
    connection.execute(NO_NODE)
    client = await start_service(database=named)
    answer = await trigger(client, 500)
    assert answer["result"].startswith("the node /no/node:")
    assert "of Citus cannot be reached to load through it" in answer["result"]
    assert answer["result"].endswith("LOAD_THROUGH=coordinator does without")
    await client.close()
    client = await start_service(database=named, load_through="coordinator")
    await trigger(client)


async def test_that_there_is_no_node_to_load_through_is_said(
    named: str, connection: Connection, start_service: StartService
) -> None:
    connection.execute(NO_NODES)
    client = await start_service(database=named)
    answer = await trigger(client, 500)
    assert answer["result"].startswith("Citus has no active node that holds rows")
    assert answer["result"].endswith("LOAD_THROUGH=coordinator does without")


async def test_a_loader_of_another_run_loads_nothing(
    named: str, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not have the row of its run, here since none was admitted."""
    client = await start_service(database=named)
    await trigger(client)
    before = await features(client)

    async def admit_nobody(lead: AsyncConnection, run_id: int) -> None:
        pass

    monkeypatch.setattr("etl.run.phases.admit_loaders", admit_nobody)
    answer = await trigger(client, 503, full="true")
    assert answer["result"] == "another run has begun to load"
    assert answer["run"]["state"] == "interrupted"
    assert await features(client) == before


async def test_a_late_loader_is_terminated(
    named: str, connection: Connection, start_service: StartService
) -> None:
    client = await start_service(database=named)
    run = (await trigger(client))["run"]["id"]
    rows = connection.execute("select host, port from etl.shard_nodes()").fetchall()
    name = SETTINGS["application_name"]
    late = [
        psycopg.connect(named, host=host, port=port, application_name=name)
        for host, port in rows
    ]
    for loader in late:
        assert loader.execute(ADMITTED.format(run)).rowcount == 1
    async with await AsyncConnection.connect(named, autocommit=True) as lead:
        await admit_loaders(lead, run + 1)
    for loader, (host, port) in zip(late, rows, strict=True):
        with pytest.raises(psycopg.OperationalError):
            loader.execute("select 1")
        with psycopg.connect(named, host=host, port=port) as again:
            assert again.execute(ADMITTED.format(run)).rowcount == 0


async def test_a_node_that_crashed_is_loaded_again(
    named: str, connection: Connection, start_service: StartService
) -> None:
    client = await start_service(database=named)
    await trigger(client)
    assert (await trigger(client))["run"]["unchanged"]
    connection.execute(CRASH)
    run = (await trigger(client))["run"]
    assert [file["load"] for file in run["files"]] == ["loaded"] * 3
    assert not any(step["kept"] for step in run["steps"])
    assert (await trigger(client))["run"]["unchanged"]


async def test_a_node_that_crashes_in_a_run_ends_it(
    named: str, connection: Connection, start_service: StartService
) -> None:
    client = await start_service(database=named)
    number = (await trigger(client))["run"]["id"]
    require = "select etl.require_rows_of_nodes(%s)"
    connection.execute(require, [number])
    connection.execute(CRASH)
    with pytest.raises(
        ObjectNotInPrerequisiteState, match="without its rows: run again"
    ):
        connection.execute(require, [number])
    assert (await get(client, f"/runs/{number}"))["state"] == "succeeded"


def test_a_session_is_of_use_after_a_cancellation_at_any_moment(named: str) -> None:
    """Citus renames the sessions in which nodes run a command, and may keep them."""
    for milliseconds in range(1, 40):
        with psycopg.connect(named, autocommit=True) as one:
            one.execute(f"set statement_timeout = {milliseconds}".encode())
            with suppress(QueryCanceled):
                one.execute("select etl.admit_loaders(1)")
            one.execute("set statement_timeout = 0")
            one.execute("truncate staging.users")
