"""/runs: the history in pages."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import AsyncConnection
from yarl import URL

from tests.support.client import Client, get

RUNS = 25


async def remember(connection: AsyncConnection) -> None:
    """A history of runs that failed, of which some numbers are missing."""
    await connection.execute(
        "insert into etl.runs (state, dry_run, finished_at)"
        " select 'failed', false, now() from generate_series(1, %s * 2)",
        [RUNS],
    )
    await connection.execute("delete from etl.runs where id %% 2 = 0", [])


async def pages(client: Client, path: str) -> list[list[dict[str, Any]]]:
    """All pages from this one on, each found by the link of the one before."""
    found = []
    following: str | None = path
    while following is not None:
        async with client.get(following) as response:
            assert response.status == 200
            found.append(await response.json())
            link = response.links.get("next")
            following = URL(link["url"]).path_qs if link else None
    return found


@pytest.mark.parametrize("limit", [1, 7, RUNS - 1, RUNS, RUNS + 1, 1000])
async def test_pages_give_each_run_once(
    client: Client, connection: AsyncConnection, limit: int
) -> None:
    await remember(connection)
    everything = await get(client, "/runs")
    assert [run["id"] for run in everything] == [*range(2 * RUNS - 1, 0, -2)]
    found = await pages(client, f"/runs?limit={limit}")
    assert [run for page in found for run in page] == everything
    sizes = [len(page) for page in found]
    assert sizes == [limit] * (RUNS // limit) + [RUNS % limit] * (RUNS % limit > 0)


async def test_after_a_run_come_the_older_ones(
    client: Client, connection: AsyncConnection
) -> None:
    """Also after one that is not there any more."""
    await remember(connection)
    for after in (20, 21):
        assert [run["id"] for run in await get(client, f"/runs?after={after}")] == [
            *range(19, 0, -2)
        ]
    assert await get(client, "/runs?after=1") == []
    first = (await get(client, f"/runs?after={2**63 - 1}&limit=1"))[0]
    assert first["id"] == 2 * RUNS - 1


async def test_pages_stay_when_a_run_is_added(
    client: Client, connection: AsyncConnection
) -> None:
    await remember(connection)
    async with client.get("/runs?limit=3") as response:
        following = URL(response.links["next"]["url"]).path_qs
    await remember(connection)
    assert [run["id"] for run in await get(client, following)] == [*(43, 41, 39)]


REFUSED = [
    *("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2"),
    *("after=0", "after=x", f"after={2**63}", "after=" + "9" * 5000),
    *("after=%D9%A1", "order=id", "limit=1.0"),
]


async def test_what_makes_no_page(subtests: pytest.Subtests, client: Client) -> None:
    for query in REFUSED:
        with subtests.test(query=query):
            async with client.get(f"/runs?{query}") as response:
                assert response.status == 400
                assert response.content_type == "application/problem+json"


async def test_numbers_that_no_run_has(client: Client) -> None:
    for number in ("9" * 19, "9" * 5000, "0" * 5000 + "1", "%D9%A1", str(2**63 - 1)):
        async with client.get(f"/runs/{number}") as response:
            assert response.status == 404
