"""Any query: what it answers is what SQL written by hand gives.

Hypothesis makes each condition twice, in the query language and in SQL, and puts them
together to trees; and it makes select lists and orders in the same way.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql

from tests.support.client import StartService

COLUMNS = """
alter table features add column score double precision, add column flag boolean,
    add column tags text[], add column extra jsonb
"""

ROWS = r"""
insert into features (
    user_id, name, signup_date, total_experiments, avg_experiments, experiments_pct,
    score, flag, tags, extra
)
select
    number,
    (array['Ada', 'bob, (x)', 'a"\', '', null])[1 + number % 5],
    '2024-01-01'::date + number % 3,
    number % 4,
    1,
    1,
    (array[0.1, -3, 'NaN', null])[1 + number % 4],
    (array[true, false, null])[1 + number % 3],
    (array['{a,b}', '{"c,d"}', '{}', null]::text[])[1 + number % 4]::text[],
    (array['{"n": 1, "t": "x"}', '{"n": 2.5, "l": [1, "y"]}', null])
        [1 + number % 3]::jsonb
from generate_series(1, 40) as number
"""


class Pair(NamedTuple):
    """The same in the query language and in SQL."""

    query: str
    sql: str


def quoted(value: str) -> str:
    """A value in a junction."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def literal(value: str) -> str:
    return sql.Literal(value).as_string(None)


#: Fields in both languages, with the type of their values, and values to compare with.
FIELDS = [
    ("user_id", "user_id", "bigint", ["3", "17", "-1", "40"]),
    ("total_experiments", "total_experiments", "bigint", ["0", "2", "7"]),
    ("name", "name", "text", ["Ada", "bob, (x)", 'a"\\', "", "null", "é"]),
    ("signup_date", "signup_date", "date", ["2024-01-02", "2025-01-01"]),
    ("score", "score", "double precision", ["0.1", "NaN", "-Infinity"]),
    ("flag", "flag", "boolean", ["true", "f"]),
    ("tags", "tags", "text[]", ["{a,b}", '{"c,d"}', "{}"]),
    ("extra->n", "(extra -> 'n')", "jsonb", ["1", "2.5", '"x"']),
    ("extra->>t", "(extra ->> 't')", "text", ["x", "y", ""]),
    ("extra->l->>1", "(extra -> 'l' ->> 1)", "text", ["y"]),
    ("tags->0", "(to_jsonb(tags) -> 0)", "jsonb", ['"a"', '"c,d"']),
]
COMPARED = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@st.composite
def comparisons(draw: st.DrawFn) -> Pair:
    """``field.operator.value``."""
    name, column, kind, values = draw(st.sampled_from(FIELDS))
    operator = draw(st.sampled_from([*COMPARED, "in", "is", "isdistinct", "any"]))
    value = draw(st.sampled_from(values))
    several = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    array = ", ".join(f"{literal(each)}::{kind}" for each in several)
    if operator == "is":
        pair = Pair("is.null", f"{column} is null")
    elif operator == "isdistinct":
        pair = Pair(
            f"isdistinct.{quoted(value)}",
            f"{column} is distinct from {literal(value)}::{kind}",
        )
    elif operator in ("in", "any") and kind == "text[]":
        pair = Pair(f"cs.{quoted(value)}", f"{column} @> {literal(value)}::text[]")
    elif operator == "in":
        elements = ",".join(map(quoted, several))
        pair = Pair(f"in.({elements})", f"{column} in ({array})")
    elif operator == "any":
        elements = ",".join(map(quoted, several))
        pair = Pair(
            f"gt(any).{quoted(f'{{{elements}}}')}", f"{column} > any (array[{array}])"
        )
    else:
        pair = Pair(
            f"{operator}.{quoted(value)}",
            f"{column} {COMPARED[operator]} {literal(value)}::{kind}",
        )
    if draw(st.booleans()):
        pair = Pair(f"not.{pair.query}", f"not ({pair.sql})")
    return Pair(f"{name}.{pair.query}", f"({pair.sql})")


@st.composite
def junctions(draw: st.DrawFn, of: st.SearchStrategy[Pair]) -> Pair:
    """``and(…)``, ``not.or(…)`` and so on."""
    operator = draw(st.sampled_from(["and", "or"]))
    pairs = draw(st.lists(of, min_size=1, max_size=3))
    query = f"{operator}({','.join(pair.query for pair in pairs)})"
    condition = f"({f' {operator} '.join(pair.sql for pair in pairs)})"
    if draw(st.booleans()):
        return Pair(f"not.{query}", f"(not {condition})")
    return Pair(query, condition)


TREES = junctions(st.recursive(comparisons(), junctions, max_leaves=8))

#: Select lists in both languages, with what the rows are ordered by; groups last.
LISTS = [
    Pair("*", "features.*"),
    Pair("user_id,name", "user_id, name"),
    Pair("n:name,user_id::text", "name as n, user_id::text"),
    Pair("extra->n,extra->>t", "extra -> 'n' as n, extra ->> 't' as t"),
    Pair("tags->0,f:flag", "to_jsonb(tags) -> 0 as tags, flag as f"),
    Pair("s:extra->n::text", "(extra -> 'n')::text as s"),
]
GROUPS = [
    Pair("count()", "count(*)"),
    Pair("name,count()", "name, count(*)"),
    Pair("flag,user_id.max(),score.count()", "flag, max(user_id), count(score)"),
    Pair("d:signup_date,user_id.sum()::text", "signup_date as d, sum(user_id)::text"),
    Pair("a:user_id.avg(),user_id.min()", "avg(user_id) as a, min(user_id)"),
]
GROUPED_BY = [None, "name", "flag", "signup_date", None]
ORDERS = [
    Pair("", "features.user_id"),
    Pair("name.desc.nullslast", "name desc nulls last, features.user_id"),
    Pair("score,user_id.desc", "score, features.user_id desc"),
    Pair("extra->n.nullsfirst", "extra -> 'n' nulls first, features.user_id"),
]

Asked = list[tuple[dict[str, str], str]]


@st.composite
def questions(draw: st.DrawFn) -> tuple[dict[str, str], str]:
    """Parameters, and the SQL of the same rows."""
    tree = draw(TREES)
    name = tree.query.partition("(")[0]
    parameters = {name: tree.query.removeprefix(name)}
    if draw(st.booleans()):
        number = draw(st.integers(0, len(GROUPS) - 1))
        items, group = GROUPS[number], GROUPED_BY[number]
        rest = f" group by {group} order by {group}" if group else ""
    else:
        items, order = draw(st.sampled_from(LISTS)), draw(st.sampled_from(ORDERS))
        rest = f" order by {order.sql}"
        if order.query:
            parameters["order"] = order.query
    parameters["select"] = items.query
    limit, offset = draw(st.none() | st.integers(0, 50)), draw(st.integers(0, 9))
    if limit is not None:
        parameters |= {"limit": str(limit), "offset": str(offset)}
        rest += f" limit {limit} offset {offset}"
    return parameters, f"select {items.sql} from features where {tree.sql}{rest}"


async def test_any_query_agrees_with_sql(
    start_service: StartService, connection: AsyncConnection
) -> None:
    @settings(max_examples=300, database=None)
    @given(questions())
    def collect(question: tuple[dict[str, str], str]) -> None:
        asked.append(question)

    asked: Asked = []
    await asyncio.to_thread(collect)
    # Only now: the service draws random numbers, which Hypothesis warns of meanwhile.
    await connection.execute(COLUMNS)
    await connection.execute(ROWS)
    client = await start_service()

    async def rows_by_sql(query: str) -> Any:
        rows = await connection.execute(
            f"select coalesce(json_agg(row_to_json(rows.*)), '[]')::text"
            f" from ({query}) as rows".encode()
        )
        ((text,),) = await rows.fetchall()
        return json.loads(text)

    async def rows_by_http(parameters: dict[str, str]) -> Any:
        async with client.get(f"/features?{urlencode(parameters)}") as response:
            text = await response.text()
        assert response.status == 200, (parameters, text)
        return json.loads(text)

    for parameters, query in asked:
        assert await rows_by_http(parameters) == await rows_by_sql(query), (
            parameters,
            query,
        )
