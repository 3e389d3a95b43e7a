"""The statements behind ``/features``. Postgres makes JSON of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from etl.reading.catalog import Catalog
from etl.reading.cursors import decode_cursor
from etl.reading.exports import as_objects
from etl.reading.expressions import (
    cast,
    condition_of,
    field_of,
    group_by,
    keyset_predicate,
    numbered,
    order_by,
    select_list,
    where,
)
from etl.reading.grammar import every_column
from etl.reading.query import MAX_PAGE_ROWS, Query, cached_if_short
from etl.reading.tree import Field, Term

#: What was published last, which every statement reads in its own snapshot.
VERSION = sql.SQL("run_id, modified, version, published.columns")
PUBLISHED = sql.SQL("select {} from etl.features_state as published").format(VERSION)

#: A page as one row; a materialized page is read in the order in which it was made.
PAGE = sql.SQL(
    """
    with page as materialized (
        select {columns} from features{rest}{order} limit {one_more}{offset}
    )
    select {version}, (select count(*) from page), {total}, {cursor}, {rows}
    from etl.features_state as published
    """
)
COUNT = sql.SQL("(select count(*) from ({}{}) as counted)")
CURSOR = sql.SQL(
    """
    case when (select count(*) from page) > {limit} then
        (
            select array_to_json(array[{values}])::text from page
            offset {limit} - 1 limit 1
        )
    end
    """
)
ROWS = sql.SQL("(select string_agg(row::text, e',\\n') from ({objects}) as rows (row))")
NULL = sql.SQL("null")


@cached_if_short
def rows_by_key(query: Query) -> bytes:
    """Rows as JSON by their keys, which are one parameter, an array of text.

    Its one row is the published version, and an array of the rows in the order of the
    keys: null where there is none, or the key is no value of the column's type.
    """
    key = query.catalog.key[0]
    statement = sql.SQL(
        """
        select {version}, array(
            select (
                select row_to_json(picked.*) from (
                    select {items} from features
                    where {key} = case
                        when pg_input_is_valid(wanted.key, {type_name})
                            then wanted.key::{type}
                    end
                ) as picked
            )::text
            from unnest($1::text[]) with ordinality as wanted (key, position)
            order by wanted.position
        )
        from etl.features_state as published
        """
    )
    return statement.format(
        version=VERSION,
        items=select_list(query.items),
        key=field_of(Field(key)),
        type_name=key.type,
        type=sql.SQL(key.type),
    ).as_bytes(None)


def page(
    query: Query, after: str | None, limit: int, *, with_rows: bool
) -> tuple[bytes, Sequence[str]]:
    """A statement for one row, and its parameters.

    It gives the version, the rows found (up to one more than ``limit``), the total,
    the cursor and the rows.
    """
    values = decode_cursor(after, query.rows_digest, len(query.order))
    nulls = tuple(value is None for value in values)
    statement, parameters = _page(query, nulls, limit, with_rows)
    return statement, [*parameters, *(value for value in values if value is not None)]


@cached_if_short
def _page(
    query: Query, nulls: tuple[bool, ...], limit: int, with_rows: bool
) -> tuple[bytes, list[str]]:
    """The statement of a page, and its parameters before those of the cursor.

    The values of the cursor are those of the page's last row, as a JSON array, and null
    if no page follows: one row more is read to know.
    """
    values: list[str] = []
    parameter = numbered(values)
    conditions = [condition_of(each, parameter) for each in query.conditions]
    given = list(values)
    after = [None if null else parameter("") for null in nulls]
    names = [item.name for item in query.items]
    columns = [select_list(query.items)] if with_rows or query.is_grouped else []
    position = []
    for number, term in enumerate(query.order if query.has_cursor else ()):
        name = sql.Identifier(_unused_name(f"order {number}", names))
        columns.append(sql.SQL("{} as {}").format(field_of(term.field), name))
        position.append(cast(name, "text"))
    rest = [*conditions, *keyset_predicate(query.order, after)]
    picked = sql.SQL("select {} from page limit {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), limit
    )
    statement = PAGE.format(
        columns=sql.SQL(", ").join(columns or [sql.SQL("1 as one")]),
        rest=where(rest) + group_by(query.items),
        order=_ordered(query),
        one_more=limit and limit + 1,
        offset=sql.SQL(f" offset {query.offset}" if query.offset else ""),
        version=VERSION,
        total=_total(query, conditions),
        cursor=CURSOR.format(limit=limit, values=sql.SQL(", ").join(position))
        if limit and position
        else NULL,
        rows=ROWS.format(objects=as_objects(picked, strip_nulls=query.strips_nulls))
        if with_rows
        else NULL,
    )
    return statement.as_bytes(None), given


def rows(query: Query, after: str | None = None) -> sql.Composed:
    """All rows, for COPY: as JSON in one column, or the columns of CSV.

    COPY takes no parameters, so values are literals that psycopg quotes.
    """
    values = decode_cursor(after, query.rows_digest, len(query.order))
    cursor = [None if value is None else sql.Literal(value) for value in values]
    rest = [*_literally(query), *keyset_predicate(query.order, cursor)]
    limit = "" if query.limit is None else f" limit {query.limit}"
    offset = f" offset {query.offset}" if query.offset else ""
    selected = _selection(query, rest) + _ordered(query) + sql.SQL(limit + offset)
    if query.format == "csv":
        return selected
    return as_objects(selected, strip_nulls=query.strips_nulls)


def plan(query: Query) -> sql.Composed:
    """Asks the planner how many rows there are without limit and offset."""
    return sql.SQL("explain (format json) ") + _selection(query, _literally(query))


def first_rows(catalog: Catalog, limit: int) -> sql.Composed:
    """The first rows by their key, all their columns."""
    order = [Term(Field(each)) for each in catalog.key]
    return sql.SQL("select {} from features{} limit {}").format(
        select_list(every_column(catalog)), order_by(order), limit
    )


def _selection(query: Query, conditions: Sequence[sql.Composable]) -> sql.Composed:
    """The rows under these conditions, or groups of them, in no order."""
    return sql.SQL("select {} from features{}{}").format(
        select_list(query.items, for_csv=query.format == "csv"),
        where(conditions),
        group_by(query.items),
    )


def _literally(query: Query) -> list[sql.Composable]:
    return [condition_of(each, sql.Literal) for each in query.conditions]


def _total(query: Query, conditions: Sequence[sql.Composable]) -> sql.Composable:
    """The number of rows without limit and offset; of an estimate, up to a bound."""
    if query.count in (None, "planned"):
        return NULL
    bound = f" limit {MAX_PAGE_ROWS + 1}" if query.count == "estimated" else ""
    return COUNT.format(_selection(query, conditions), sql.SQL(bound))


def _ordered(query: Query) -> sql.Composable:
    """The order of the rows. Groups are ordered by all that they are grouped by."""
    clause = order_by(query.order)
    groups = [str(at) for at, item in enumerate(query.items, 1) if not item.aggregate]
    if not query.is_grouped or not groups:
        return clause
    start = clause + sql.SQL(", ") if query.order else sql.SQL(" order by ")
    return start + sql.SQL(", ".join(groups))


def _unused_name(name: str, names: Sequence[str]) -> str:
    """This name, longer where a column has it already."""
    return _unused_name(f"{name}.", names) if name in names else name
