"""Facets of ``features``: the commonest values of columns, with their counts.

From a query string to one statement and its answer; knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection, sql

from etl.errors import BadParameter, NotAcceptable, truncated
from etl.reading.catalog import Catalog
from etl.reading.expressions import condition_of, numbered, value_of, where
from etl.reading.grammar import parse_select
from etl.reading.query import Parameters, Preferences, Query, read_query, require_few
from etl.reading.reader import PublishedVersion, checked, execute
from etl.reading.scanner import is_text
from etl.reading.statements import VERSION
from etl.reading.tree import JUNCTIONS, RESERVED, Item

#: Values of a facet without ``limit``, and at most.
DEFAULT_VALUES, MAX_VALUES = 20, 1000

#: What a request for facets may have beside filters.
PARAMETERS = ("limit", "format", *JUNCTIONS)

#: All facets of a request in one scan, so in one snapshot with the version. A row of
#: ``groups`` is of the value whose ``other`` is 0. A scan for each facet could use
#: parallel workers, and takes twice as long where all cores are busy.
STATEMENT = sql.SQL(
    """
    with groups as materialized (
        select {groups}, count(*) as count
        from (select {values} from features{where}) as picked
        group by grouping sets ({sets})
    )
    select {version}, (
        select row_to_json(answer.*)::text from (
            select
                (
                    select coalesce(sum(count), 0) from groups where other_0 = 0
                ) as total,
                (
                    select row_to_json(facets.*) from (select {facets}) as facets
                ) as facets
        ) as answer
    )
    from etl.features_state as published
    """
)
GROUP = sql.SQL("{value}, grouping({value}) as {other}")
VALUE = sql.SQL("{expression} as {value}")
FACET = sql.SQL(
    """(
        select row_to_json(facet.*) from (
            select
                (
                    select coalesce(json_agg(row_to_json(commonest.*)), '[]') from (
                        select {value} as value, count from groups where {other} = 0
                        order by groups.count desc, groups.{value} limit {limit}
                    ) as commonest
                ) as values,
                count(*) as distinct,
                count(*) > {limit} as truncated
            from groups where {other} = 0
        ) as facet
    ) as {name}"""
)


@dataclass(frozen=True, eq=False)
class Facets:
    """What is counted, and the query whose conditions apply."""

    items: tuple[Item, ...]
    query: Query
    limit: int


def read_facets(parameters: Parameters, catalog: Catalog, asked: Preferences) -> Facets:
    """Parse all parameters.

    Raises BadParameter, and NotAcceptable if no format is accepted that facets have.
    """
    others = tuple(each for each in parameters if each[0] != "facet")
    given = {name for name, _ in others if name in RESERVED}
    if unfit := sorted(given.difference(PARAMETERS)):
        raise BadParameter(f"facet takes limit and filters, not {', '.join(unfit)}")
    if asked.form is None and "format" not in given:
        raise NotAcceptable("facets are given as application/json")
    query = read_query(others, catalog, asked)
    if query.format != "json":
        raise BadParameter(f"facets are given as json, not as {query.format}")
    limit = DEFAULT_VALUES if query.limit is None else query.limit
    if limit > MAX_VALUES:
        raise BadParameter(f"limit of facets is at most {MAX_VALUES}, not {limit}")
    names = ",".join(text for name, text in parameters if name == "facet")
    return Facets(_read_items(catalog, names), query, limit)


async def count_values(
    connection: AsyncConnection, facets: Facets
) -> tuple[PublishedVersion, bytes]:
    """The published version and the answer as JSON; raises StaleCatalog."""
    statement, values = _statement(facets)
    found = await execute(connection, statement, values)
    ((*published, answer),) = await found.fetchall()
    version = checked(facets.query.catalog, PublishedVersion(*published))
    return version, b"%b\n" % answer.encode()


def _read_items(catalog: Catalog, text: str) -> tuple[Item, ...]:
    """What ``facet`` lists, as ``select`` does."""
    if not text.strip() or not is_text(text):
        raise BadParameter(f"facet takes columns, such as a,b, not {truncated(text)}")
    items = parse_select(catalog, text)
    require_few("facet", [item.field for item in items if item.field])
    if len({(item.field, item.cast) for item in items}) < len(items):
        raise BadParameter("facet names a column twice")
    for item in items:
        if item.field is None or item.aggregate:
            raise BadParameter(f"facet takes columns, and {item.name} is an aggregate")
        if (item.cast or item.field.type) == "json":
            raise BadParameter(
                f"facet: {item.name} is json, of which Postgres compares no values:"
                f" cast it, as in {item.name}::jsonb"
            )
    return items


def _statement(facets: Facets) -> tuple[bytes, Sequence[str]]:
    """A statement for one row, and its parameters: version, and the answer."""
    values: list[str] = []
    parameter = numbered(values)
    rest = where([condition_of(each, parameter) for each in facets.query.conditions])
    parts = [
        {
            "expression": value_of(item),
            "value": sql.Identifier(f"value_{number}"),
            "other": sql.Identifier(f"other_{number}"),
            "name": sql.Identifier(item.name),
            "limit": sql.Literal(facets.limit),
        }
        for number, item in enumerate(facets.items)
    ]
    comma = sql.SQL(", ")
    statement = STATEMENT.format(
        groups=comma.join(GROUP.format(**each) for each in parts),
        values=comma.join(VALUE.format(**each) for each in parts),
        where=rest,
        sets=comma.join(sql.SQL("({value})").format(**each) for each in parts),
        version=VERSION,
        facets=comma.join(FACET.format(**each) for each in parts),
    )
    return statement.as_bytes(None), values
