"""GET /features?facet=: values and counts agree with SQL."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import AsyncConnection, sql

from tests.support.client import Client, StartService, trigger
from tests.support.locks import waits_for_a_lock
from tests.support.tables import MORE_COLUMNS

#: Nulls, ties, values of all kinds, and columns named like a parameter or an alias.
FILL = r"""
alter table features
    add column facet text,
    add column value integer,
    add column "count" bigint,
    add column big bigint,
    add column score double precision,
    add column raw json;
insert into features (
    user_id, name, email, signup_date, total_experiments, avg_experiments,
    experiments_pct, facet, value, "count", big, score, raw, moods, pair, seen, amount,
    ok, words, id, "limit", "a.b, ""c"" (d)"
)
select
    number,
    case when number % 7 > 0 then 'Name ' || chr(65 + number % 5) end,
    (array['', 'x,"y"', e'a\\b', e'tab\there', 'é%_*', null])[1 + number % 6],
    case when number % 3 > 0 then '2024-01-01'::date + number % 40 end,
    number % 4,
    1.1,
    0.1 * (number % 9),
    'facet ' || number % 2,
    number % 3,
    number % 5,
    9007199254740993 + number % 2,
    (array['NaN', '-infinity', 0.1, null])[1 + number % 4]::double precision,
    '{}',
    array['good', null]::mood[],
    row(number % 2, 'x')::pair,
    '2024-01-01 00:00:00.000001Z'::timestamptz + number % 3 * interval '1 us',
    0.25 * (number % 3),
    (array[true, false, null])[1 + number % 3],
    jsonb_build_object('a', number % 2),
    ('00000000-0000-0000-0000-00000000000' || number % 10)::uuid,
    number % 6,
    case when number % 2 = 0 then 'odd' end
from generate_series(1, 400) as number
"""

#: Columns as they are named in the query string, and in SQL.
COLUMNS = {
    name: name
    for name in (
        *("name", "email", "signup_date", "total_experiments", "experiments_pct"),
        *("facet", "value", "count", "big", "score", "moods", "pair", "seen", "amount"),
        *("ok", "words", "id", "user_id", "plain", "limit"),
    )
} | {r'"a.b, \"c\" (d)"': 'a.b, "c" (d)'}

FILTERS = {
    "": "true",
    "total_experiments=gte.2": "total_experiments >= 2",
    'name=like.*B&"facet"=eq.facet 1': "name like '%B' and facet = 'facet 1'",
    'email=in.(é%25_*,"x,\\"y\\"")': "email in ('é%_*', 'x,\"y\"')",
    "name=is.null&ok=not.is.true": "name is null and not ok is true",
    "user_id=eq.0": "false",
}


@pytest.fixture
async def filled(connection: AsyncConnection) -> AsyncConnection:
    await connection.execute(MORE_COLUMNS.encode())
    await connection.execute(FILL.encode())
    return connection


async def ask(client: Client, query: str, status: int = 200, **headers: str) -> Any:
    path = f"/features?{query}"
    async with client.get(path, headers=headers) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text, parse_float=Decimal)


async def expected_facet(
    connection: AsyncConnection, column: str, condition: str, limit: int
) -> dict[str, Any]:
    """A facet as written by hand, of which Postgres makes JSON."""
    statement = sql.SQL(
        "select row_to_json(rows.*)::text from (select {column} as value, count(*)"
        " from features where " + condition + " group by {column}"
        " order by count(*) desc, features.{column}) as rows"
    )
    found = await connection.execute(statement.format(column=sql.Identifier(column)))
    values = [json.loads(row, parse_float=Decimal) for (row,) in await found.fetchall()]
    return {
        "values": values[:limit],
        "distinct": len(values),
        "truncated": len(values) > limit,
    }


async def test_values_are_counted_as_by_sql(
    subtests: pytest.Subtests, client: Client, filled: AsyncConnection
) -> None:
    for filters in FILTERS:
        with subtests.test(filters=filters):
            condition = FILTERS[filters]
            found = await filled.execute(
                f"select count(*) from features where {condition}"
            )
            ((total,),) = await found.fetchall()
            for name, column in COLUMNS.items():
                for limit in (3, 20):
                    query = f"facet={quote(name)}&limit={limit}&{filters}"
                    expected = await expected_facet(filled, column, condition, limit)
                    answer = await ask(client, query)
                    assert answer == {"total": total, "facets": {column: expected}}, (
                        query
                    )
            names = quote(",".join(COLUMNS))
            answer = await ask(client, f"facet={names}&{filters}")
            assert answer["total"] == total
            assert list(answer["facets"]) == list(COLUMNS.values())
            for column in COLUMNS.values():
                expected = await expected_facet(filled, column, condition, 20)
                assert answer["facets"][column] == expected


async def test_a_filter_on_the_column_itself_applies(
    client: Client, filled: AsyncConnection
) -> None:
    answer = await ask(client, "facet=total_experiments&total_experiments=eq.2")
    assert answer == {
        "total": 100,
        "facets": {
            "total_experiments": {
                "values": [{"value": 2, "count": 100}],
                "distinct": 1,
                "truncated": False,
            }
        },
    }


async def test_the_same_column_twice(client: Client, filled: AsyncConnection) -> None:
    """A cast to the column's own type is no other value to Postgres."""
    async with client.get("/features?facet=a:name,b:name::text") as response:
        answer = await response.json()
    assert answer["facets"]["a"] == answer["facets"]["b"]
    assert answer["total"] == 400
    assert sum(each["count"] for each in answer["facets"]["a"]["values"]) == 400


async def test_limits(client: Client, filled: AsyncConnection) -> None:
    facet = (await ask(client, "facet=user_id"))["facets"]["user_id"]
    assert (len(facet["values"]), facet["distinct"]) == (20, 400)
    assert [each["value"] for each in facet["values"]] == list(range(1, 21))
    facet = (await ask(client, "facet=user_id&limit=1000"))["facets"]["user_id"]
    assert (len(facet["values"]), facet["truncated"]) == (400, False)
    facet = (await ask(client, "facet=user_id&limit=0"))["facets"]["user_id"]
    assert facet == {"values": [], "distinct": 400, "truncated": True}


REFUSED = [
    ("facet=nothing", "no column 'nothing'"),
    ("facet=name,a:name", "a column twice"),
    ('facet="name', "field name"),
    ("facet=raw", "raw is json"),
    ("facet=name,value.sum()", "aggregate"),
    ("facet=count()", "aggregate"),
    ("facet=name&limit=1001", "at most 1000"),
    ("facet=name&limit=x", "limit"),
    ("facet=name&select=name", "not select"),
    ("facet=name&order=name&count=true", "not count, order"),
    ("facet=name&after=x", "not after"),
    ("facet=name&format=csv", "as json"),
    ("facet=name&value=eq.x", "integer"),
    ("facet=name&unknown=eq.1", "unknown"),
    ("facet=name&name=eq.%00", "NUL"),
    ("facet=name%00", "such as a,b"),
    ("facet=", "such as a,b"),
]


async def test_what_cannot_be_answered_is_refused(
    subtests: pytest.Subtests, client: Client, filled: AsyncConnection
) -> None:
    for query, words in REFUSED:
        with subtests.test(query=query, words=words):
            problem = await ask(client, query, 400)
            assert words in problem["detail"]


async def test_json_has_facets_too_and_times_have_their_zone(
    client: Client, filled: AsyncConnection
) -> None:
    query = "facet=first:words->a,seen::date,raw::jsonb&limit=2&id=is.not_null"
    facets = (await ask(client, query))["facets"]
    assert list(facets) == ["first", "seen", "raw"]
    assert facets["first"]["values"] == [
        {"value": 0, "count": 200},
        {"value": 1, "count": 200},
    ]
    assert facets["seen"]["values"] == [{"value": "2024-01-01", "count": 400}]
    assert facets["raw"]["values"] == [{"value": {}, "count": 400}]
    zone = "timezone=America/New_York"
    facets = (await ask(client, query, Prefer=zone))["facets"]
    assert facets["seen"]["values"] == [{"value": "2023-12-31", "count": 400}]
    await ask(client, query, 400, Prefer="handling=strict, unknown=1")


async def test_conditions_may_be_a_tree(
    client: Client, filled: AsyncConnection
) -> None:
    query = "facet=value&or=(user_id.lt.10,and(value.eq.2,user_id.gt.390))&limit=1"
    condition = "user_id < 10 or (value = 2 and user_id > 390)"
    expected = await expected_facet(filled, "value", condition, 1)
    assert (await ask(client, query))["facets"] == {"value": expected}


async def test_only_json_is_given(client: Client) -> None:
    await ask(client, "facet=name", 406, Accept="text/csv")
    await ask(client, "facet=name", 406, Accept="application/x-ndjson")
    await ask(client, "facet=name&format=json", Accept="text/csv")
    await ask(client, "facet=name", Accept="text/csv, application/*;q=0.5")


async def test_an_answer_that_a_client_has_is_304(client: Client) -> None:
    await trigger(client)
    path = "/features?facet=total_experiments"
    async with client.get(path) as response:
        tag = response.headers["ETag"]
        assert response.headers["X-Run-Id"] == "1"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.content_type == "application/json"
        assert await response.json() == {
            "total": 10,
            "facets": {
                "total_experiments": {
                    "values": [{"value": 1, "count": 9}, {"value": 2, "count": 1}],
                    "distinct": 2,
                    "truncated": False,
                }
            },
        }
    for other, status in (
        ("", 304),
        ("&limit=1", 200),
        ("&name=eq.Bob", 200),
        (",name", 200),
    ):
        headers = {"If-None-Match": tag}
        async with client.get(path + other, headers=headers) as response:
            assert response.status == status, other
    async with client.head(path) as response:
        assert (response.status, response.headers["ETag"]) == (200, tag)
        assert await response.read() == b""


async def test_answers_are_compressed(client: Client, filled: AsyncConnection) -> None:
    headers = {"Accept-Encoding": "gzip"}
    query = "/features?facet=name"
    async with client.get(query, headers=headers, auto_decompress=False) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        body = gzip.decompress(await response.read())
    assert json.loads(body) == await ask(client, "facet=name")


async def test_a_column_that_comes_later_has_facets(
    client: Client, connection: AsyncConnection
) -> None:
    await ask(client, "facet=later", 400)
    await connection.execute("alter table features add column later text")
    assert (await ask(client, "facet=later"))["facets"]["later"]["values"] == []


async def test_facets_that_take_too_long(
    client: Client, connection: AsyncConnection
) -> None:
    async with connection.transaction():
        await connection.execute("lock table features")
        reading = asyncio.create_task(ask(client, "facet=name", 504))
        await waits_for_a_lock(connection)
        await connection.execute(
            "select pg_cancel_backend(pid) from pg_stat_activity"
            " where wait_event_type = 'Lock' and datname = current_database()"
        )
        assert "takes too long" in (await reading)["detail"]


async def test_a_token_is_needed_where_reading_needs_one(
    start_service: StartService,
) -> None:
    client = await start_service(api_token="run", api_token_read="read")
    await ask(client, "facet=name", 401)
    await ask(client, "facet=name", Authorization="Bearer read")


async def suitable(client: Client) -> list[str]:
    async with client.get("/openapi.json") as response:
        feature = (await response.json())["components"]["schemas"]["Feature"]
        names: list[str] = feature["x-facets"]
        return names


async def test_columns_with_few_values_suit(
    client: Client, filled: AsyncConnection
) -> None:
    """As Postgres's statistics are at this moment: no value of a measured number, a
    list or a row is picked by anyone, and none that comes once only.
    """
    assert await suitable(client) == []
    await filled.execute("analyze features")
    assert await suitable(client) == [
        *("name", "email", "signup_date", "total_experiments", "limit", "seen"),
        *("amount", "ok", "id", 'a.b, "c" (d)', "facet", "value", "count", "big"),
    ]
    await filled.execute("update features set name = user_id, ok = true; analyze")
    columns = await suitable(client)
    assert "name" not in columns
    assert "ok" not in columns
