"""GET /features: columns, filters, order and pages agree with SQL."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from yarl import URL

from etl.reading import statements
from etl.reading.catalog import read_catalog
from etl.reading.cursors import encode_cursor
from etl.reading.query import Preferences, read_query
from etl.reading.reader import MAX_PREPARED, read_page
from tests.support.client import Client, StartService
from tests.support.locks import waits_for_a_lock

#: Columns of more types, one of them named like a parameter, one as nobody should.
MORE_COLUMNS = """
alter table features
    add column score double precision,
    add column seen timestamptz,
    add column flag boolean,
    add column tags text[],
    add column code varchar(3),
    add column "limit" bigint not null default 0,
    add column "a b,%s""d" text
"""

#: Nulls, ties, doubles that only their shortest text distinguishes, special characters.
FILL = r"""
insert into features (
    user_id, name, email, signup_date, total_experiments, avg_experiments,
    experiments_pct, score, seen, flag, tags, code, "limit", "a b,%s""d"
)
select
    number,
    case when number % 7 > 0 then 'Name ' || chr(65 + number % 5) end,
    (array['', 'x,"y"', e'a\\b', e'tab\there', 'é%_*', null])[1 + number % 6],
    case when number % 3 > 0 then '2024-01-01'::date + number % 4 end,
    number % 4,
    1.1,
    0.1 * (number % 9),
    case number % 5
        when 0 then null when 1 then 'NaN' when 2 then '-infinity'
        else 0.1 + 1e-17 * (number % 3) * number
    end::double precision,
    case when number % 4 > 0
        then '2024-01-01 00:00:00.000001Z'::timestamptz + (number % 3) * interval '1 us'
    end,
    case number % 3 when 0 then true when 1 then false end,
    case when number % 2 = 0 then array['a', 'b,c'] end,
    'abc',
    number % 5,
    case when number % 2 = 0 then 'odd' end
from generate_series(1, %s) as number
"""

ORDERS = [
    ("", "user_id"),
    ("order=user_id.desc", "user_id desc"),
    ("order=name", "name, user_id"),
    ("order=name.desc.nullslast,score", "name desc nulls last, score, user_id"),
    ("order=score.nullsfirst", "score nulls first, user_id"),
    ("order=score.desc", "score desc, user_id"),
    ("order=seen.desc.nullslast,flag.asc", "seen desc nulls last, flag, user_id"),
    ("order=total_experiments", "total_experiments, user_id"),
    (
        "order=total_experiments.desc,user_id.desc",
        "total_experiments desc, user_id desc",
    ),
    ('order="limit".desc,email.nullsfirst', '"limit" desc, email nulls first, user_id'),
    ("order=tags,name", "tags, name, user_id"),
]

FILTERS = [
    ("user_id=eq.7", "user_id = 7"),
    ("user_id=gt.5&user_id=lte.9", "user_id > 5 and user_id <= 9"),
    ("user_id=not.gte.5", "not user_id >= 5"),
    ("user_id=in.(1,3,99)", "user_id in (1, 3, 99)"),
    ("user_id=in.()", "false"),
    ("user_id=not.in.(1,2)", "user_id not in (1, 2)"),
    ("name=eq.Name A", "name = 'Name A'"),
    ("name=neq.Name A", "name <> 'Name A'"),
    ("name=is.null", "name is null"),
    ("name=is.not_null", "name is not null"),
    ("name=not.is.NULL", "name is not null"),
    ("name=like.*e B", "name like '%e B'"),
    ("name=ilike.nAME%25c", "name ilike 'name%c'"),
    ("name=not.like.Name _", "name not like 'Name _'"),
    ("email=eq.", "email = ''"),
    (r"email=eq.a\b", r"email = 'a\b'"),
    (r"email=like.a\\b", r"email like 'a\\b'"),
    ("email=eq.é%25_*", "email = 'é%_*'"),
    (r'email=in.("x,\"y\"","a\\b",)', """email in ('x,"y"', E'a\\\\b', '')"""),
    ("email=eq.tab%09here", "email = E'tab\\there'"),
    ("score=gt.0.1", "score > 0.1"),
    ("score=eq.NaN", "score = 'NaN'"),
    ("flag=is.true", "flag is true"),
    ("flag=is.unknown", "flag is unknown"),
    ("flag=not.is.false", "flag is not false"),
    ("flag=eq.t", "flag"),
    ("signup_date=lt.2024-01-03", "signup_date < '2024-01-03'"),
    ("seen=gte.2024-01-01T00:00:00.000002Z", "seen >= '2024-01-01 00:00:00.000002Z'"),
    ('tags=eq.{a,"b,c"}', "tags = array['a', 'b,c']"),
    ("code=eq.abcd", "false"),
    ('"limit"=eq.3', '"limit" = 3'),
    (r'"a b,%25s\"d"=eq.odd', '"a b,%s""d" = \'odd\''),
]


async def fill(connection: AsyncConnection, rows: int) -> None:
    await connection.execute(MORE_COLUMNS.encode())
    await connection.execute(
        FILL.replace("series(1, %s)", f"series(1, {rows})").encode()
    )
    await connection.execute("analyze features")


async def ask(client: Client, query: str, status: int = 200) -> Any:
    async with client.get(f"/features?{query}") as response:
        answer = await response.json(content_type=None)
        assert response.status == status, (query, answer)
        return answer


async def keys_by_sql(connection: AsyncConnection, rest: str) -> list[int]:
    rows = await connection.execute(f"select user_id from features {rest}".encode())
    return [key for (key,) in await rows.fetchall()]


async def keys_by_pages(client: Client, query: str) -> list[int]:
    """Follow the links to the end; every page but the last is full."""
    found: list[int] = []
    following: str | None = f"/features?{query}"
    limit = int(URL(f"?{query}").query["limit"])
    while following:
        async with client.get(following) as response:
            assert response.status == 200, await response.text()
            page = [row["user_id"] for row in await response.json()]
            link = response.links.get("next")
        found += page
        following = str(URL(link["url"]).relative()) if link else None
        assert len(page) == limit or not following
    return found


async def test_pages_give_each_row_once_in_order(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 20)
    client = await start_service()
    for order, in_sql in ORDERS:
        expected = await keys_by_sql(connection, f"order by {in_sql}")
        for limit in (1, 3, 7, 19, 20, 21):
            query = f"select=user_id&limit={limit}&{order}".rstrip("&")
            assert await keys_by_pages(client, query) == expected, query


@pytest.mark.parametrize("limit", [1000, 6000])
async def test_pages_of_many_rows(
    start_service: StartService, connection: AsyncConnection, limit: int
) -> None:
    """A short page is one text of Postgres's, a long one is streamed."""
    await fill(connection, 3 * limit + 1)
    client = await start_service()
    orders = ORDERS[:2] if limit == 1000 else ORDERS
    for order, in_sql in orders:
        expected = await keys_by_sql(connection, f"order by {in_sql}")
        query = f"select=user_id&limit={limit}&{order}".rstrip("&")
        assert await keys_by_pages(client, query) == expected, query


async def test_rows_that_come_and_go_move_no_page(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 20)
    client = await start_service()
    async with client.get("/features?limit=5&order=user_id.desc") as response:
        following = URL(response.links["next"]["url"]).relative()
    await connection.execute("delete from features where user_id in (16, 18)")
    async with client.get(following) as response:
        assert [row["user_id"] for row in await response.json()] == [15, 14, 13, 12, 11]


async def test_deep_pages_use_the_index_of_the_key(
    connection: AsyncConnection,
) -> None:
    """No page reads the rows before it."""
    await fill(connection, 50_000)
    catalog = await read_catalog(connection)
    query = read_query((("limit", "100"),), catalog, Preferences())
    cursor = encode_cursor(["40000"], query.rows_digest)
    statement, values = statements.page(query, cursor, 100, with_rows=True)
    rows = await AsyncRawCursor(connection).execute(b"explain " + statement, values)
    plan = str(await rows.fetchall())
    assert "Index Scan using features_pkey" in plan
    assert "Index Cond: (user_id > " in plan


async def test_short_statements_are_prepared_and_long_ones_are_not(
    connection: AsyncConnection,
) -> None:
    """A connection of the server keeps a hundred of them, whatever their size."""
    catalog = await read_catalog(connection)
    for number in (1, 100):
        filters = ",".join(f"user_id.eq.{each}" for each in range(number))
        query = read_query((("or", f"({filters})"),), catalog, Preferences())
        for _ in range(10):
            await read_page(connection, query, None, 10, with_rows=True)
    rows = await connection.execute(
        "select count(*), max(length(statement)) from pg_prepared_statements"
        " where statement like '%features%user_id%'"
    )
    ((prepared, length),) = await rows.fetchall()
    assert prepared == 1
    assert length <= MAX_PREPARED


async def test_a_key_that_goes_and_comes_back(
    client: Client, connection: AsyncConnection
) -> None:
    await fill(connection, 3)
    await connection.execute("alter table features drop constraint features_pkey")
    async with client.get("/features/1") as response:
        assert response.status == 404
        assert "has no key of one column" in await response.text()
    await connection.execute("alter table features add primary key (user_id)")
    async with client.get("/features/1") as response:
        assert response.status == 200


async def test_filters_agree_with_sql(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 60)
    client = await start_service()
    for query, where in FILTERS:
        expected = await keys_by_sql(connection, f"where {where} order by user_id")
        for more in ("", "&limit=100", "&format=csv"):
            async with client.get(f"/features?select=user_id&{query}{more}") as answer:
                text = await answer.text()
            assert answer.status == 200, (query, text)
            if more == "&format=csv":
                keys = [int(line) for line in text.split()[1:]]
            else:
                keys = [row["user_id"] for row in json.loads(text)]
            assert keys == expected, (query, more)
        paged = f"select=user_id&limit=7&count=true&{query}"
        assert await keys_by_pages(client, paged) == expected
        async with client.get(f"/features?{paged}") as answer:
            assert answer.headers["X-Total-Count"] == str(len(expected))


async def test_any_filters_together_agree_with_sql(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 60)
    client = await start_service()
    source = random.Random(5)
    for _ in range(60):
        chosen = source.sample(FILTERS, source.randrange(2, 4))
        order, in_sql = source.choice(ORDERS)
        where = " and ".join(f"({condition})" for _, condition in chosen)
        query = "&".join([*(each for each, _ in chosen), "limit=2", order]).rstrip("&")
        expected = await keys_by_sql(connection, f"where {where} order by {in_sql}")
        assert await keys_by_pages(client, query) == expected, query


async def test_select(start_service: StartService, connection: AsyncConnection) -> None:
    await fill(connection, 2)
    client = await start_service()
    rows = await ask(client, "select=name,user_id,%22limit%22&limit=1")
    assert [list(row) for row in rows] == [["name", "user_id", "limit"]]
    assert await ask(client, "select=*") == await ask(client, "")
    odd = await ask(client, r"select=%22a b,%25s\%22d%22")
    assert odd == [{'a b,%s"d': None}, {'a b,%s"d': "odd"}]
    async with client.get("/features/2?select=score,user_id") as response:
        assert await response.text() == '{"score":"-Infinity","user_id":2}'


async def test_formats(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 20)
    client = await start_service()
    rows = await ask(client, "")
    cases = [
        ("format=csv", {}, "text/csv"),
        ("", {"Accept": "text/csv"}, "text/csv"),
        ("format=ndjson", {"Accept": "text/csv"}, "application/x-ndjson"),
        (
            "",
            {"Accept": "text/csv;q=0.1, application/x-ndjson"},
            "application/x-ndjson",
        ),
        ("", {"Accept": "text/html, */*;q=0.8"}, "application/json"),
        ("", {"Accept": "application/*, */*;q=0.1"}, "application/json"),
        ("limit=9&format=ndjson", {}, "application/x-ndjson"),
    ]
    for query, headers, kind in cases:
        async with client.get(f"/features?{query}", headers=headers) as response:
            assert response.status == 200
            assert response.content_type == kind
            text = await response.text()
        expected = rows[:9] if "limit" in query else rows
        if kind == "text/csv":
            read = list(csv.DictReader(io.StringIO(text, newline="")))
            assert [row["email"] for row in read] == [
                row["email"] or "" for row in expected
            ]
            assert list(read[0]) == list(rows[0])
        elif kind == "application/json":
            assert json.loads(text) == expected
        else:
            assert [json.loads(line) for line in text.splitlines()] == expected
    for path in ("/features", "/features/1"):
        async with client.get(path, headers={"Accept": "image/png"}) as response:
            assert response.status == 406
            assert response.content_type == "application/problem+json"
    for query in ("format=csv", "format=ndjson"):
        async with client.get(f"/features?{query}&user_id=eq.0") as response:
            lines = (await response.text()).splitlines()
            assert len(lines) == (1 if query == "format=csv" else 0)


async def test_counts(start_service: StartService, connection: AsyncConnection) -> None:
    await fill(connection, 20)
    client = await start_service()
    for query in ("", "&limit=3", "&limit=0", "&format=csv", "&limit=5000"):
        async with client.get(f"/features?count=true&user_id=gt.5{query}") as response:
            assert response.headers["X-Total-Count"] == "15", query
    async with client.get("/features?count=false&limit=0") as response:
        assert "X-Total-Count" not in response.headers
        assert await response.text() == "[]\n"


WRONG = [
    ("nothing=eq.1", "there is no column 'nothing'; allowed: user_id, name"),
    ("nothing=1", "unknown parameter 'nothing'; allowed: select, order, limit"),
    ("select=name,,email", "select parameter 'name,,email': \",\" where field name"),
    ("select=name&select=nothing", "there is no column 'nothing'"),
    ("select=nothing(name)", "features is one table"),
    ("select=user_id.median()", "parameter 'user_id.median()': \".\" where"),
    ("select=name:", "parameter 'name:': end of input where field name"),
    ("nothing.name=eq.1", "features is one table"),
    ("order=nothing(name)", "features is one table"),
    ("limit=1&limit=1", "'limit' is given more than once"),
    ("order=", "order '': end of input where field name"),
    ("order=name,", "order 'name,': end of input where field name"),
    ("order=name.up", 'order \'name.up\': "." where "asc", "desc"'),
    ("order=name.nullsfirst.desc", 'where "asc", "desc", "nullsfirst"'),
    ("limit=1.5", "limit is a whole number"),
    ("limit=\uff19", "limit is a whole number"),
    ("limit=9999999999999999999", "limit is a whole number"),
    ("offset=1.5", "offset is a whole number"),
    ("offset=1&after=x", "after is one way to page, offset another"),
    ("after=x&after=y", "'after' is given more than once"),
    ("count=yes", "count is true or false"),
    ("format=xml", "format is one of json, csv, ndjson"),
    ("user_id=7", "a filter on user_id is operator.value"),
    ("user_id=equals.7", "operators: eq, neq, gt, gte, lt, lte, like, ilike"),
    ("user_id=not.not.eq.7", "a filter on user_id is operator.value"),
    (
        "user_id=eq.seven",
        'invalid input syntax for type bigint: "seven"',
    ),
    ("user_id=eq.99999999999999999999", "is out of range for type bigint"),
    ("user_id=in.(1,x)", 'invalid input syntax for type bigint: "x"'),
    ("user_id=in.1,2", 'filter \'in.1,2\': "1" where "("'),
    ("signup_date=lt.tomorrows", 'invalid input syntax for type date: "tomorrows"'),
    ("name=like.a\\", "must not end in a lone backslash"),
    ("name=is.true", "argument of IS TRUE must be type boolean, not type text"),
    ("flag=is.maybe", "where isVal: (null, not_null, true, false, unknown) is"),
    ("or=(user_id.eq.1", "logic tree '(user_id.eq.1': end of input where"),
    ("or=user_id.eq.1", "logic tree 'user_id.eq.1'"),
    ("or=()", "logic tree '()': \")\" where field name"),
    ("and=" + "(and" * 200, "over 100 parentheses in one another"),
    ("name=eq.a%00b", "has a NUL or half of a character"),
    ("na%00me=eq.a", "has a NUL or half of a character"),
    ("after=x", "after is not from the Link header"),
    ("after=" + "W" * 4000, "after is not from the Link header"),
]


async def test_wrong_questions_say_what_is_allowed(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 5)
    client = await start_service()
    for query, said in WRONG:
        for more in ("", "&limit=2"):
            if more and ("limit" in query or "offset" in query):
                continue
            answer = await ask(client, query + more, 400)
            assert said in answer["detail"], query
            assert len(answer["detail"]) < 700
    for query in ("limit=2", "select=nothing", "select=count()"):
        async with client.get(f"/features/1?{query}") as response:
            assert response.status == 400
    async with client.head("/features?user_id=eq.seven") as response:
        assert response.status == 400


HOSTILE = [
    *("'", '"', "''", '""', "';--", "/*", "*/", ";", "$$", "$1", "%", "%s", "%%", "\\"),
    *("(", ")", "()", "(,)", ",", ".", "..", "not.", "not", "eq", "eq.", "in.", "is."),
    *("{", "}", "{}", "[", "\t", "\n", "\r\n", "\x01", "\x1f", "\x7f", "\u2028", "é"),
    *(
        "😀",
        "\ufeff",
        "\u202e",
        "null",
        "NULL",
        "1); drop table features; --",
        "x" * 7000,
    ),
    *("0x10", "1e400", "-0", "Infinity", "\\x00", '"a', 'a"b', '"\\"', "(" * 500),
]


async def test_hostile_words_anywhere(
    start_service: StartService, connection: AsyncConnection
) -> None:
    """As value, name, column, order, cursor or key: rows, or 400."""
    await fill(connection, 5)
    client = await start_service()
    for word in HOSTILE:
        queries: Sequence[dict[str, str]] = [
            {"name": word},
            *({"name": f"{op}.{word}"} for op in ("eq", "like", "in", "is", "not.gt")),
            *({"name": f"in.({word})"}, {"name": f'in.("{word}")'}),
            *({"score": f"eq.{word}"}, {"tags": f"eq.{word}"}, {"seen": f"lt.{word}"}),
            {word: "eq.1"},
            *({name: word} for name in ("select", "order", "limit", "after", "count")),
            *({"order": f"name.{word}"}, {"format": word}, {"select": f"name,{word}"}),
        ]
        for query in queries:
            for more in ({}, {"limit": "1"}):
                url = URL("/features").with_query({**more, **query})
                if len(str(url)) > 8000:
                    continue
                async with client.get(url) as response:
                    assert response.status in (200, 400), (query, response.status)
                    await response.read()
        if not set(word) & set("/.") and len(word) < 1000:
            async with client.get(URL("/features") / word) as response:
                assert response.status == 404, word


async def test_bytes_that_are_no_query(client: Client) -> None:
    """Not even HTTP clients send these; the service goes on."""
    server = client.server
    for target in (
        *(b"/features?name=eq.\xff", b"/features?name=eq.%FF", b"/features?%=1"),
        *(b"/features?name=eq.%ED%A0%80", b"/features?%ZZ=%", b"/features?\xc3\x28=1"),
        *(b"/features?&&&", b"/features?=", b"/features?name=eq." + b"x" * 100_000),
        *(
            b"/features?name",
            b"/features/%ED%A0%80",
            b"/features/\xff",
            b"/features?#x",
        ),
    ):
        assert server.port is not None
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status = int((await reader.readline()).split()[1])
        assert status in (200, 400, 404), target
        writer.close()
        await writer.wait_closed()


async def test_a_cursor_of_another_query_is_refused(
    start_service: StartService, connection: AsyncConnection
) -> None:
    await fill(connection, 9)
    client = await start_service()
    async with client.get("/features?limit=2&order=name&user_id=gt.1") as response:
        cursor = URL(response.links["next"]["url"]).query["after"]
    good = f"order=name&user_id=gt.1&after={cursor}"
    assert len(await ask(client, good)) == 6
    assert len(await ask(client, f"select=name&limit=3&{good}")) == 3
    for other in (
        "order=name.desc&user_id=gt.1",
        "order=name&user_id=gt.2",
        "order=name",
    ):
        answer = await ask(client, f"{other}&after={cursor}", 400)
        assert "of a query with these filters and this order" in answer["detail"]


async def test_columns_that_come_and_go_while_it_serves(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        "insert into features values (1, 'n', 'e', null, 1, 1, 1, null, null)"
    )
    before = await ask(client, "limit=1")
    await connection.execute("alter table features add column extra text default 'x'")
    for query in ("", "limit=1", "extra=eq.x", "order=extra&limit=1"):
        assert await ask(client, query) == [{**before[0], "extra": "x"}]
    async with client.get("/features/1") as response:
        assert (await response.json())["extra"] == "x"
    await connection.execute("alter table features drop column extra")
    for query in ("limit=1", ""):
        assert await ask(client, query) == before
    await ask(client, "extra=eq.x", 400)
    async with client.get("/features/1") as response:
        assert await response.json() == before[0]


async def test_a_table_without_a_key(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute("alter table features drop constraint features_pkey")
    async with client.get("/features?limit=1") as response:
        assert (response.status, await response.json()) == (200, [])
    async with client.get("/features/1") as response:
        assert response.status == 404
    await ask(client, "after=x", 400)


async def test_an_order_of_many_terms(
    start_service: StartService, connection: AsyncConnection
) -> None:
    """Postgres passes 100 arguments to a function, and a cursor has more values."""
    await connection.execute("alter table features add column list jsonb")
    await connection.execute(
        "insert into features (user_id, total_experiments, avg_experiments,"
        " experiments_pct, list) select n, 0, 0, 0, '[]' from generate_series(1, 9) n"
    )
    client = await start_service()
    terms = ",".join(f"list->{number}" for number in range(150))
    assert await keys_by_pages(client, f"limit=2&order={terms}") == list(range(1, 10))


async def test_a_key_of_two_columns(
    client: Client, connection: AsyncConnection
) -> None:
    await fill(connection, 20)
    await connection.execute(
        "alter table features drop constraint features_pkey,"
        ' add primary key ("limit", user_id)'
    )
    expected = await keys_by_sql(connection, 'order by "limit", user_id')
    assert await keys_by_pages(client, "limit=3") == expected


async def test_an_operator_that_a_type_lacks(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute("alter table features add column extra json")
    queries = (
        'extra=eq.{"a":1}',
        "order=extra",
        "order=extra&limit=1",
        "user_id=like.1",
    )
    for query in queries:
        answer = await ask(client, query, 404)
        assert "operator" in answer["detail"]
        assert answer["code"] == "42883"
    assert await ask(client, "extra=is.null") == []


async def test_a_statement_that_takes_too_long(
    client: Client, connection: AsyncConnection
) -> None:
    async with connection.transaction():
        await connection.execute("lock table features")
        reading = asyncio.create_task(ask(client, "limit=3", 504))
        await waits_for_a_lock(connection)
        await connection.execute(
            "select pg_cancel_backend(pid) from pg_stat_activity"
            " where wait_event_type = 'Lock' and datname = current_database()"
        )
        assert "takes too long" in (await reading)["detail"]
