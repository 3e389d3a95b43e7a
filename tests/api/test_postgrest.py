"""What PostgREST's specifications expect of a table, asked as raw requests.

The clients of PostgREST have tests of their own in ``tests/clients``.
"""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from psycopg import AsyncConnection
from yarl import URL

from etl.reading.query import Query
from tests.support.client import Client, StartService
from tests.support.tables import FILL, ROWS

#: Columns of the types that have operators of their own.
COLUMNS = """
alter table features
    add column extra jsonb,
    add column old json,
    add column tags text[],
    add column span int4range,
    add column words tsvector,
    add column seen timestamptz
"""

SOME = """
insert into features (
    user_id, name, total_experiments, avg_experiments, experiments_pct,
    extra, old, tags, span, words, seen
)
select
    number,
    (array['Ada', 'Bob', 'Cy', null])[1 + number % 4],
    number % 3,
    1.5,
    0.25,
    jsonb_build_object('n', number, 'list', jsonb_build_array(number, 'x'), 'no', null),
    '{"a": 1}',
    array['t' || number, 'all'],
    int4range(number, number + 2),
    to_tsvector('english', 'cats and ' || number || ' dogs'),
    '2024-01-01 12:00Z'::timestamptz + number * interval '1 hour'
from generate_series(1, 15) as number
"""


@pytest.fixture
async def table(client: Client, connection: AsyncConnection) -> Client:
    """A service whose table has 15 rows."""
    await connection.execute(COLUMNS)
    await connection.execute(SOME)
    return client


async def ask(
    client: Client, query: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of an answer; the headers have _ instead of -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, f"/features?{query}", headers=named) as answer:
        text = await answer.text()
        is_json = answer.content_type.endswith(("/json", "+json"))
        body = json.loads(text) if text and is_json else text
        return answer.status, dict(answer.headers), body


async def keys(client: Client, query: str) -> list[int]:
    status, _, rows = await ask(client, f"select=user_id&{query}")
    assert status == 200, (query, rows)
    return [row["user_id"] for row in rows]


CONDITIONS = [
    ("or=(user_id.eq.1,user_id.gte.15)", [1, 15]),
    ("or=(user_id.eq.1,and(user_id.gt.3,user_id.lt.6))", [1, 4, 5]),
    ("not.or=(user_id.gt.2,name.is.null)", [1, 2]),
    ("and=(user_id.gt.3,user_id.not.gt.5)", [4, 5]),
    ("not.and=(user_id.gt.1,user_id.lt.16)", [1]),
    ("or=(user_id.eq.1,user_id.eq.2)&or=(user_id.eq.2,user_id.eq.3)", [2]),
    ("name=match.^A", [4, 8, 12]),
    ("name=imatch.^a", [4, 8, 12]),
    ("name=like(any).{A*,C*}&user_id=lt.7", [2, 4, 6]),
    ("name=ilike(all).{a*,*A}&user_id=lt.7", [4]),
    ("user_id=eq(any).{1,2}", [1, 2]),
    ("user_id=gt(all).{12,13}", [14, 15]),
    ("name=isdistinct.Ada&user_id=lt.5", [1, 2, 3]),
    ("tags=cs.{t3}", [3]),
    ("tags=cd.{t3,all,t4}", [3, 4]),
    ("tags=ov.{t1,t2}", [1, 2]),
    ("span=cs.[3,4)", [2, 3]),
    ("span=sl.[6,9)", [1, 2, 3, 4]),
    ("span=sr.[1,13)", [13, 14, 15]),
    ("span=nxr.[1,4)", [1, 2]),
    ("span=nxl.[14,20)", [14, 15]),
    ("span=adj.[3,5)", [1, 5]),
    ("words=fts.cat%20%26%207", [7]),
    ("words=plfts(english).the%20cats%208", [8]),
    ("words=phfts.5%20dogs", [5]),
    ("words=wfts.cats%20-9%20-10&user_id=gt.7", [8, 11, 12, 13, 14, 15]),
    ("name=fts(english).ada", [4, 8, 12]),
    ("extra->n=gt.13", [14, 15]),
    ("extra->>n=eq.13", [13]),
    ("extra->list->>0=eq.7", [7]),
    ("extra=cs.{%22n%22:3}", [3]),
    ("tags->>0=eq.t9", [9]),
    ("order=extra->n.desc&limit=2", [15, 14]),
    ("order=extra->>n.desc&limit=2", [9, 8]),
    ("limit=3&offset=2", [3, 4, 5]),
    ("offset=13", [14, 15]),
    ("offset=-4&limit=1", [1]),
    ("limit=0&offset=3", []),
]


async def test_conditions(table: Client) -> None:
    for query, expected in CONDITIONS:
        assert await keys(table, query) == expected, query
        status, _, text = await ask(table, f"select=user_id&{query}&format=csv")
        assert status == 200
        assert [int(line) for line in text.split()[1:]] == expected, query


SELECTED: list[tuple[str, list[object]]] = [
    ("select=id:user_id,n:name&limit=1", [{"id": 1, "n": "Bob"}]),
    ("select=user_id::text&limit=1", [{"user_id": "1"}]),
    ("select=user_id,name,user_id::text&limit=1", [{"user_id": "1", "name": "Bob"}]),
    ("select=user_id,%20name&limit=1", [{"user_id": 1, "name": "Bob"}]),
    ("select=user_id&select=name&limit=1", [{"user_id": 1, "name": "Bob"}]),
    ("select=extra->list->>1,extra->n&limit=1", [{"list": "x", "n": 1}]),
    ("select=old->a,tags->0&limit=1", [{"a": 1, "tags": "t1"}]),
    ("select=n:extra->>n::int&limit=1", [{"n": 1}]),
    ("select=count()", [{"count": 15}]),
    ("select=count", [{"count": 15}]),
    ("select=user_id.sum(),user_id.max()", [{"sum": 120, "max": 15}]),
    ("select=a:user_id.avg()::int&user_id=lt.4", [{"a": 2}]),
    ("select=s:extra->n::int.sum()", [{"s": 120}]),
    (
        "select=total_experiments,count()",
        [{"total_experiments": number, "count": 5} for number in range(3)],
    ),
    (
        "select=t:total_experiments,user_id.min()&order=total_experiments.desc",
        [{"t": 2, "min": 2}, {"t": 1, "min": 1}, {"t": 0, "min": 3}],
    ),
    (
        "select=name,count()&name=not.is.null&limit=1&offset=1",
        [{"name": "Bob", "count": 4}],
    ),
    ("select=name.count()&user_id=eq.0", [{"count": 0}]),
]


async def test_select(table: Client) -> None:
    for query, expected in SELECTED:
        status, _, rows = await ask(table, query)
        assert (status, rows) == (200, expected), query
        status, _, text = await ask(table, f"{query}&format=ndjson")
        assert [json.loads(line) for line in text.splitlines()] == expected


RANGES: list[tuple[str, dict[str, str], int, str]] = [
    ("", {}, 200, "0-14/*"),
    ("limit=3", {}, 200, "0-2/*"),
    ("limit=3&offset=2", {}, 200, "2-4/*"),
    ("limit=0", {}, 200, "*/*"),
    ("offset=100", {}, 200, "*/*"),
    ("user_id=eq.0", {"Prefer": "count=exact"}, 200, "*/0"),
    ("", {"Prefer": "count=exact"}, 200, "0-14/15"),
    ("limit=3", {"Prefer": "count=exact"}, 206, "0-2/15"),
    ("limit=3", {"Prefer": "count=estimated"}, 206, "0-2/15"),
    ("offset=15", {"Prefer": "count=exact"}, 206, "*/15"),
    ("offset=16", {"Prefer": "count=exact"}, 416, "*/15"),
    ("limit=3&format=csv", {"Prefer": "count=exact"}, 206, "0-2/15"),
    ("limit=3&count=true", {}, 200, "0-2/15"),
    ("", {"Range": "0-1"}, 200, "0-1/*"),
    ("", {"Range": "10-100", "Range-Unit": "items"}, 200, "10-14/*"),
    ("", {"Range": "13-"}, 200, "13-14/*"),
    ("limit=3", {"Range": "0-1"}, 200, "0-1/*"),
    ("limit=3&offset=2", {"Range": "3-9"}, 200, "3-4/*"),
    ("", {"Range": "100-199", "Prefer": "count=exact"}, 416, "*/15"),
    ("", {"Range": "bytes=0-1"}, 200, "0-14/*"),
    ("select=name,count()", {"Prefer": "count=exact"}, 200, "0-3/4"),
]


async def test_ranges(table: Client) -> None:
    for query, sent, status, shown in RANGES:
        found, headers, body = await ask(table, query, **sent)
        assert (found, headers["Content-Range"]) == (status, shown), (query, sent)
        if status == 416:
            assert body["code"] == "PGRST103"
            assert body["message"] == "Requested range not satisfiable"
            assert body["details"].endswith("but there are only 15 rows.")
        if "Range" not in sent:  # which is for GET alone
            found, headers, _ = await ask(table, query, "HEAD", **sent)
            assert (found, headers["Content-Range"]) == (status, shown)
    status, _, body = await ask(table, "", Range="9-5")
    assert (status, body["code"]) == (416, "PGRST103")
    assert body["details"].startswith("The lower boundary must be lower than")


async def test_many_rows_have_a_range_where_they_are_counted(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    await connection.execute("analyze features")
    _, headers, _ = await ask(client, "select=user_id")
    assert "Content-Range" not in headers
    _, headers, rows = await ask(client, "select=user_id&limit=5000")
    assert (headers["Content-Range"], len(rows)) == ("0-4999/*", 5000)
    for count in ("exact", "planned", "estimated"):
        status, headers, _ = await ask(
            client, "select=user_id&limit=3", Prefer=f"count={count}"
        )
        assert (status, headers["Content-Range"]) == (206, f"0-2/{ROWS}"), count
        assert headers["Preference-Applied"] == f"count={count}"
    status, headers, rows = await ask(client, "select=user_id", Prefer="count=exact")
    assert (status, len(rows)) == (200, ROWS)
    assert "Link" not in headers  # all rows have no next page
    assert headers["Content-Range"] == f"0-{ROWS - 1}/{ROWS}"


async def test_the_next_page_by_offset(table: Client) -> None:
    for query, expected in (
        ("select=user_id&limit=6&offset=1", list(range(2, 16))),
        ("select=user_id,count()&limit=6", list(range(1, 16))),
    ):
        found: list[int] = []
        url: URL | None = URL(f"/features?{query}")
        while url:
            async with table.get(url) as answer:
                found += [row["user_id"] for row in await answer.json()]
                link = answer.links.get("next")
                url = URL(link["url"]).relative() if link else None
        assert found == expected


async def test_a_page_after_a_cursor_has_no_position(table: Client) -> None:
    async with table.get("/features?limit=4&count=true") as answer:
        following = URL(answer.links["next"]["url"]).relative()
    async with table.get(following) as answer:
        assert answer.headers["Content-Range"] == "*/15"
    async with table.get(following.without_query_params("count")) as answer:
        assert "Content-Range" not in answer.headers


async def test_a_cast_that_fails_is_the_error_of_one_row_alone(table: Client) -> None:
    async def status(key: int) -> int:
        # The names of the others are null, which is a number too.
        path = f"/features/{key}?select=name::int"
        async with table.get(path) as answer:
            return answer.status

    found = await asyncio.gather(*(status(key) for key in range(1, 16)))
    assert found == [200 if key % 4 == 3 else 400 for key in range(1, 16)]


async def test_ranges_have_no_links(table: Client) -> None:
    """A client that pages by Range sends another Range."""
    _, headers, rows = await ask(table, "select=user_id", Range="0-3")
    assert (len(rows), headers.get("Link")) == (4, None)


async def test_preferences(table: Client) -> None:
    status, headers, _ = await ask(
        table, "", Prefer="handling=lenient, count=exact,made=up, count=planned"
    )
    assert status == 200
    assert headers["Preference-Applied"] == "count=exact, handling=lenient"
    status, _, body = await ask(
        table, "", Prefer="handling=strict, a, return=minimal, return=all, tx=rollback"
    )
    assert (status, body["code"]) == (400, "PGRST122")
    assert body["details"] == "Invalid preferences: a, return=all"
    status, _, body = await ask(table, "", Prefer="handling=strict", Range="bytes=0-1")
    assert status == 400
    status, headers, rows = await ask(
        table, "select=seen&limit=1", Prefer="timezone=America/New_York"
    )
    assert rows == [{"seen": "2024-01-01T08:00:00-05:00"}]
    assert headers["Preference-Applied"] == "timezone=America/New_York"
    _, _, text = await ask(
        table, "select=seen&limit=1&format=csv", Prefer="timezone=Asia/Tokyo"
    )
    assert text.split("\n")[1] == "2024-01-01 22:00:00+09"
    status, _, body = await ask(table, "", Prefer="timezone=Jupiter/Red_Spot")
    assert (status, body["code"]) == (400, "22023")
    _, _, rows = await ask(table, "select=seen&limit=1")
    assert rows == [{"seen": "2024-01-01T13:00:00+00:00"}]


async def test_one_object(table: Client) -> None:
    single = "application/vnd.pgrst.object+json"
    for accept in (single, "application/vnd.pgrst.object", single.upper()):
        status, headers, row = await ask(
            table, "select=user_id&user_id=eq.5", Accept=accept
        )
        assert (status, row) == (200, {"user_id": 5})
        assert headers["Content-Type"] == f"{single}; charset=utf-8"
    for query, number in (
        ("user_id=eq.0", 0),
        ("", 15),
        ("limit=2", 2),
        ("limit=0", 0),
    ):
        status, _, body = await ask(table, query, Accept=single)
        assert (status, body["code"]) == (406, "PGRST116")
        assert body["details"] == f"The result contains {number} rows"
    status, _, row = await ask(table, "select=user_id&limit=1", Accept=single)
    assert (status, row) == (200, {"user_id": 1})


def count_queries() -> int:
    gc.collect()
    return sum(isinstance(each, Query) for each in gc.get_objects())


async def test_objects_that_are_refused_leave_nothing(table: Client) -> None:
    """In a cache, where they would take the place of queries that come again."""
    single = "application/vnd.pgrst.object+json"
    await ask(table, "user_id=eq.0", Accept=single)
    before = count_queries()
    for _ in range(3):
        status, _, _ = await ask(table, "user_id=eq.0", Accept=single)
        assert status == 406
    assert count_queries() == before


async def test_rows_without_nulls(table: Client) -> None:
    query = "select=user_id,name,extra&user_id=eq.3"
    stripped = {"user_id": 3, "extra": {"n": 3, "list": [3, "x"]}}
    array = "application/vnd.pgrst.array+json;nulls=stripped"
    status, headers, rows = await ask(table, query, Accept=array)
    assert (status, rows) == (200, [stripped])
    assert headers["Content-Type"] == f"{array}; charset=utf-8"
    single = "application/vnd.pgrst.object+json; nulls=stripped"
    assert (await ask(table, query, Accept=single))[2] == stripped
    _, headers, rows = await ask(
        table, query, Accept="application/vnd.pgrst.array+json"
    )
    assert headers["Content-Type"] == "application/json"
    assert rows[0]["name"] is None


async def test_another_schema(table: Client) -> None:
    status, _, _ = await ask(table, "limit=1", Accept_Profile="public")
    assert status == 200
    status, _, body = await ask(table, "limit=1", Accept_Profile="unknown")
    assert (status, body["code"]) == (406, "PGRST106")
    assert body["message"] == "Invalid schema: unknown"
    assert body["hint"] == "Only the following schemas are exposed: public"


ERRORS = [
    ("/features?nothing=eq.1", 400, "42703", "column features.nothing does not"),
    ("/features?select=nothing", 400, "42703", "column features.nothing does not"),
    ("/features?order=nothing", 400, "42703", "column features.nothing does not"),
    ("/features?user_id=eq.x", 400, "22P02", "invalid input syntax for type"),
    ("/features?user_id=5", 400, "PGRST100", '"failed to parse filter (5)"'),
    ("/features?order=name.up", 400, "PGRST100", '"failed to parse order (name'),
    ("/features?user_id=like.1", 404, "42883", "operator does not exist: bigint"),
    ("/features?name=cs.x", 404, "42883", "operator does not exist: text @>"),
    ("/features?select=name.sum()", 404, "42883", "function sum(text) does not"),
    ("/features?select=name::nothing", 400, "42704", 'type "nothing" does not'),
    ("/features?select=count()::text union all select name", 400, "PGRST100", '"fail'),
    ("/features?select=user_id::int is null", 400, "PGRST100", '"failed to parse'),
    ("/features?facet=user_id::int is null", 400, "PGRST100", '"failed to parse'),
    ("/features?name=fts(nothing).x", 400, "42704", "text search configuration"),
    ("/features?select=name::int", 400, "22P02", "invalid input syntax for type"),
    ("/features?name=match.(", 400, "2201B", "invalid regular expression"),
    ("/features?select=count()&order=name", 400, "42803", "column"),
    ("/features?select=name::regclass", 404, "42P01", "relation"),
    ("/features?limit=-1", 416, "PGRST103", "Requested range not satisfiable"),
    ("/features?select=other(a)", 400, "PGRST200", "Could not find a relation"),
    ("/features?other.a=eq.1", 400, "PGRST108", "'other' is not an embedded"),
    ("/features?order=other(a)", 400, "PGRST108", "'other' is not an embedded"),
    ("/features?user_id=eq.1&format=xml", 400, "PGRST100", "format is one of"),
    ("/features/1?select=nothing", 400, "42703", "column features.nothing does"),
    ("/nothing", 404, "PGRST205", "Could not find the table 'public.nothing'"),
    ("/rpc/nothing", 404, "PGRST202", "Could not find the function public.nothing"),
    ("/a/b/c", 404, "PGRST125", "Invalid path specified in request URL"),
]


async def test_errors(table: Client) -> None:
    for path, status, code, message in ERRORS:
        async with table.get(path) as answer:
            body = await answer.json(content_type="application/problem+json")
        assert (answer.status, body["code"]) == (status, code), body
        assert body["message"].startswith(message)
        assert set(body) >= {"details", "hint", "detail", "title"}
        assert answer.headers["Proxy-Status"] == f"PostgREST; error={code}"


async def test_columns_whose_names_are_of_the_grammar(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await connection.execute(
        'alter table features add column "or" int, add column "order 0" int,'
        ' add column "a.b:c(d)->e" int, add column count int'
    )
    await connection.execute(
        "insert into features (user_id, total_experiments, avg_experiments,"
        ' experiments_pct, "or", "order 0", "a.b:c(d)->e", count)'
        " select n, 1, 1, 1, n, n + 1, n + 2, n + 3 from generate_series(1, 5) as n"
    )
    client = await start_service()
    odd = '"a.b:c(d)->e"'
    for query, expected in (
        ('"or"=eq.2', [2]),
        ('or=("or".eq.2,"order 0".eq.5)', [2, 4]),
        (f"{odd}=eq.3", [1]),
        (f"order={odd}.desc&limit=2", [5, 4]),
        ("a.b:c(d)->e=eq.3", [1]),
    ):
        assert await keys(client, query.replace("->", "-%3E")) == expected
    _, headers, rows = await ask(client, f'select={odd},order 0,x:"or",count&limit=1')
    assert rows == [{"a.b:c(d)->e": 3, "order 0": 2, "x": 1, "count": 4}]
    assert "next" in headers["Link"]
