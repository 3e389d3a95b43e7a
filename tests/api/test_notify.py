"""NOTIFY features: who listens hears of each run that publishes, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from etl.settings import Settings
from tests.support.client import Client, StartService, trigger


async def heard(connection: AsyncConnection) -> tuple[str, int]:
    """The next notification: what it says, and how many rows are there then."""
    notices = [notice async for notice in connection.notifies(timeout=30, stop_after=1)]
    rows = await connection.execute("select count(*) from public.features")
    (count,) = await rows.fetchone() or (0,)
    return notices[0].payload, count


async def no_more(connection: AsyncConnection) -> bool:
    """Whether nothing is left to hear; all that was sent before comes before this."""
    await connection.execute("notify features, 'last'")
    return (await heard(connection))[0] == "last"


async def test_each_run_that_publishes_is_heard_of(
    client: Client, connection: AsyncConnection, data_dir: Path
) -> None:
    await connection.execute("listen features")
    await trigger(client)
    assert await heard(connection) == ("1", 10)
    await trigger(client, dry_run="true")
    users = (data_dir / "users.csv").read_text()
    (data_dir / "users.csv").unlink()
    await trigger(client, 422, full="true")
    assert await no_more(connection)
    (data_dir / "users.csv").write_text(users + "\n11,New,,\n")
    await trigger(client)
    assert await heard(connection) == ("4", 11)
    assert await no_more(connection)


async def test_a_publish_that_is_rolled_back_is_not_heard_of(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    await connection.execute("listen features")
    await connection.execute("create table mine (user_id bigint references features)")
    await connection.execute("insert into mine values (1)")
    await trigger(client, 422, full="true")
    assert await no_more(connection)


@pytest.mark.parametrize("path", ['"$user", public', "public, pg_catalog"])
async def test_whatever_the_search_path(
    settings: Settings,
    start_service: StartService,
    connection: AsyncConnection,
    path: str,
) -> None:
    """Also where somebody has a function of that name."""
    await connection.execute(
        "create function pg_notify(text, text) returns void language sql as ''"
    )
    await connection.execute("listen features")
    database = make_conninfo(
        settings.database or "", options=f"-c search_path={path.replace(' ', '')}"
    )
    client = await start_service(database=database)
    await trigger(client)
    assert await heard(connection) == ("1", 10)
    assert await no_more(connection)
