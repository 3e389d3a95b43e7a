"""Charts: the data of their queries, how often these run, and what can fail."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from etl.api import charts
from etl.settings import PROJECT
from etl.sqlfiles import read_folder
from tests.support.client import Client, StartService, get, trigger

SHIPPED = [
    file.name.removesuffix(".sql") for file in read_folder(PROJECT / "sql/charts")
]


@pytest.fixture
async def changing(start_service: StartService, sql_dir: Path) -> Client:
    """A client of a service whose pipeline a test may change."""
    return await start_service(sql_dir=sql_dir)


def add(sql_dir: Path, text: str, name: str = "900_new.sql") -> None:
    (sql_dir / "charts" / name).write_text(text)


async def points(client: Client, name: str) -> list[tuple[str, float]]:
    chart = await get(client, f"/charts/{name}")
    assert chart["name"] == name
    return [(point["label"], point["value"]) for point in chart["points"]]


async def refused(client: Client, name: str, status: int) -> str:
    """Why a chart is refused."""
    async with client.get(f"/charts/{name}") as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        return str((await response.json())["detail"])


async def test_charts_are_listed_with_title_and_description(client: Client) -> None:
    listed = await get(client, "/charts")
    assert [chart["name"] for chart in listed] == SHIPPED
    assert listed[2] == {
        "name": "030_signups_by_month",
        "title": "Sign-ups by month",
        "description": "Users who signed up in each month, at most the ten years "
        "before the last of them.",
    }


async def test_the_data_of_the_shipped_charts(client: Client) -> None:
    await trigger(client)
    users, compounds, signups, shares = SHIPPED
    assert await points(client, users) == [("0", 0), ("1", 9), ("2", 1)]
    assert await points(client, compounds) == [("Compound A", 5), ("Compound B", 5)]
    months = [(f"2023-{month:02}", 1) for month in range(1, 11)]
    assert await points(client, signups) == months
    assert await points(client, shares) == [
        *(("Top 1%", 18.2), ("Top 5%", 18.2), ("Top 10%", 18.2)),
        *(("Top 25%", 36.4), ("Top 50%", 54.5)),
    ]


async def test_charts_of_an_empty_table_are_empty(client: Client) -> None:
    for name in SHIPPED:
        assert await points(client, name) == []


async def test_charts_of_extreme_values(
    client: Client, connection: AsyncConnection
) -> None:
    """Far dates, users without anything, and numbers far apart."""
    await connection.execute(
        "insert into features values"
        " (1, null, null, '0001-01-01', 0, 0, 0, null, null),"
        " (2, null, null, 'infinity', 1000000, 0, 0, 7, null),"
        " (3, null, null, '9999-12-31', 3, 0, 0, 7, null),"
        " (4, null, null, null, 50000, 0, 0, 9, 'Nine')"
    )
    users, compounds, signups, shares = SHIPPED
    bars = await points(client, users)
    assert len(bars) == 20
    assert (bars[0], bars[-1]) == (("0-50000", 3), ("950019-1000019", 1))
    assert await points(client, compounds) == [("number 7", 2), ("Nine", 1)]
    months = await points(client, signups)
    assert len(months) == 120
    assert months[-1] == ("9999-12", 1)
    assert dict(await points(client, shares))["Top 50%"] == 100.0


async def test_no_share_of_no_experiments(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        "insert into features values (1, null, null, null, 0, 0, 0, null, null)"
    )
    assert dict(await points(client, SHIPPED[3]))["Top 1%"] == 0


async def test_a_new_chart_is_a_sql_file(changing: Client, sql_dir: Path) -> None:
    """Without a restart; and a changed file gives new data."""
    await trigger(changing)
    add(sql_dir, "-- Two.\n-- title: New\nselect 'a' as label, 1.5 as value;")
    assert (await get(changing, "/charts"))[-1] == {
        **{"name": "900_new", "title": "New", "description": "Two."},
    }
    chart = await get(changing, "/charts/900_new")
    assert chart["title"] == "New"
    assert chart["points"] == [{"label": "a", "value": 1.5}]
    add(sql_dir, "select null as label, 'NaN'::float8 as value;")
    chart = await get(changing, "/charts/900_new")
    assert chart["title"] == "900_new"
    assert chart["points"] == [{"label": None, "value": None}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select nothing;", 'column "nothing" does not exist'),
        ("select 1 as label;", "a chart is one query for label, value, not label"),
        ("create temporary table made ();", "cannot execute CREATE TABLE"),
        ("select 1 as label, 'x' as value;", "a value is a number, not 'x'"),
        ("select 1 as label, true as value;", "a value is a number, not 'True'"),
        (
            "select number as label, 1 as value from generate_series(1, 1001) number;",
            "it has more than 1000 points",
        ),
        ("select 1 as label, 1 as value; select 2;", "cannot insert multiple commands"),
        ("set jit = off;", "a chart is one query for label, value"),
        ("delete from features;", "cannot execute DELETE in a read-only transaction"),
    ],
)
async def test_a_chart_that_fails_says_why_and_others_work(
    changing: Client, sql_dir: Path, text: str, message: str
) -> None:
    await trigger(changing)
    add(sql_dir, text)
    detail = await refused(changing, "900_new", 500)
    assert detail.startswith(("charts/900_new.sql: ", "charts/900_new.sql, line 1, "))
    assert message in detail
    assert len(await get(changing, "/charts")) == 5
    assert len(await points(changing, SHIPPED[0])) == 3


async def test_a_slow_chart_times_out(
    changing: Client, sql_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "TIMEOUT_SECONDS", 0.1)
    add(sql_dir, "select pg_sleep(60)::text as label, 1 as value;")
    assert "took longer than" in await refused(changing, "900_new", 504)


async def test_a_chart_with_a_bad_file_name_is_an_error(
    changing: Client, sql_dir: Path
) -> None:
    add(sql_dir, "select 1;", "new.sql")
    async with changing.get("/charts") as response:
        assert response.status == 500
        detail = (await response.json())["detail"]
        assert detail.startswith("charts/new.sql would be passed over: a SQL file is")


async def test_no_chart_of_another_name(client: Client) -> None:
    for name in (
        "nothing",
        "..%2Fbuild%2F010_features",
        "010_users_by_experiments.sql",
    ):
        assert "there is no chart" in await refused(client, name, 404)


async def test_a_pipeline_may_have_no_charts(changing: Client, sql_dir: Path) -> None:
    shutil.rmtree(sql_dir / "charts")
    assert await get(changing, "/charts") == []


async def tag_of(client: Client, path: str) -> str:
    async with client.get(path) as response:
        assert response.status == 200
        return response.headers["ETag"]


async def test_a_known_chart_is_304(
    changing: Client, sql_dir: Path, data_dir: Path
) -> None:
    """Until another input is published, or its file is changed."""
    await trigger(changing)
    paths = ["/charts", *(f"/charts/{name}" for name in SHIPPED)]
    tags = {path: await tag_of(changing, path) for path in paths}
    assert len(set(tags.values())) == len(paths)
    await trigger(changing)
    for path, tag in tags.items():
        headers = {"If-None-Match": tag}
        async with changing.get(path, headers=headers) as response:
            assert response.status == 304
            assert response.headers["X-Run-Id"] == "2"
        assert await tag_of(changing, path) == tag
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("2023-10-01", "2023-11-01"))
    await trigger(changing)
    for path, tag in tags.items():
        assert await tag_of(changing, path) != tag
    assert (await points(changing, SHIPPED[2]))[-2:] == [("2023-10", 0), ("2023-11", 1)]
    path = f"/charts/{SHIPPED[0]}"
    tag = await tag_of(changing, path)
    file = sql_dir / "charts" / f"{SHIPPED[0]}.sql"
    file.write_text(f"-- Changed.\n{file.read_text()}")
    assert await tag_of(changing, path) != tag


async def test_many_clients_cost_one_query(
    changing: Client, sql_dir: Path, connection: AsyncConnection
) -> None:
    """The data is of the last publish, also where the table is changed meanwhile."""
    await trigger(changing)
    add(sql_dir, "select 'rows' as label, count(*) as value from features;")
    async with connection.transaction():
        await connection.execute("lock table features")
        many = [asyncio.create_task(points(changing, "900_new")) for _ in range(20)]
        waiting: list[Any] = []
        while not waiting:  # the first is in the database, the others come meanwhile
            found = await connection.execute(
                "select pid from pg_stat_activity where wait_event_type = 'Lock'"
            )
            waiting = await found.fetchall()
        assert len(waiting) == 1
    assert await asyncio.gather(*many) == [[("rows", 10)]] * 20
    await connection.execute("delete from features")
    assert await points(changing, "900_new") == [("rows", 10)]


async def test_charts_are_compressed_on_request(client: Client) -> None:
    headers = {"Accept-Encoding": "gzip"}
    async with client.get("/charts", headers=headers) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert len(await response.json()) == 4


async def test_charts_take_no_parameters(client: Client) -> None:
    for path in ("/charts?limit=1", f"/charts/{SHIPPED[0]}?limit=1"):
        async with client.get(path) as response:
            assert response.status == 400
