"""The statements behind ``/features``, made of what the catalog allows, and cursors.

Values are parameters, cast to their column's type; Postgres makes JSON of the rows. A
page starts after the last row of the one before, so it costs the same at any depth, and
rows that come or go before it do not move it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count

from psycopg import sql

from etl.errors import BadParameter
from etl.reading.catalog import Catalog, Column
from etl.reading.exports import as_objects
from etl.reading.query import CACHED_QUERIES, OPERATORS, Filter, Query, Term, is_text

#: What was published last, which every statement reads in its own snapshot.
VERSION = sql.SQL("run_id, modified, version, published.columns")
PUBLISHED = sql.SQL("select {} from etl.features_state as published").format(VERSION)

#: A page as one row; a materialized page is read in the order in which it was made.
PAGE = sql.SQL(
    """
    with page as materialized (
        select {columns} from features{where}{order} limit {one_more}
    )
    select {version}, {total}, {cursor}, {rows} from etl.features_state as published
    """
)
COUNT = sql.SQL("(select count(*) from features{where})")
CURSOR = sql.SQL(
    """
    case when (select count(*) from page) > {limit} then
        (select json_build_array({values})::text from page offset {limit} - 1 limit 1)
    end
    """
)
ROWS = sql.SQL(
    """(
        select string_agg(row_to_json(picked.*)::text, e',\\n')
        from (select {columns} from page limit {limit}) as picked
    )"""
)
NULL = sql.SQL("null")

#: Makes SQL of a value: a parameter, or a literal.
Value = Callable[[str], sql.Composable]


@lru_cache(CACHED_QUERIES)
def rows_by_key(columns: Sequence[Column], key: Column) -> bytes:
    """Rows as JSON by their keys, which are one parameter, an array of text.

    One row for each key, in their order: the published version, and the row or null. A
    key that is no value of the column's type has no row.
    """
    statement = sql.SQL(
        """
        select {version}, (
            select row_to_json(picked.*) from (
                select {columns} from features
                where {key} = case
                    when pg_input_is_valid(wanted.key, {type_name})
                        then wanted.key::{type}
                end
            ) as picked
        )::text
        from etl.features_state as published
        cross join unnest($1::text[]) with ordinality as wanted (key, position)
        order by wanted.position
        """
    )
    return statement.format(
        version=VERSION,
        columns=_names(columns),
        key=sql.Identifier(key.name),
        type_name=key.value_type,
        type=sql.SQL(key.value_type),
    ).as_bytes(None)


def page(
    query: Query, after: str | None, *, with_rows: bool
) -> tuple[bytes, Sequence[str]]:
    """A statement for one row, and its parameters: version, total, cursor, rows."""
    values = decode_cursor(after, query.rows_digest, len(query.order))
    nulls = tuple(value is None for value in values)
    statement, parameters = _page(query, nulls, with_rows)
    return statement, [*parameters, *(value for value in values if value is not None)]


@lru_cache(CACHED_QUERIES)
def _page(
    query: Query, nulls: tuple[bool, ...], with_rows: bool
) -> tuple[bytes, list[str]]:
    """The statement of a page, and its parameters before those of the cursor.

    The values of the cursor are those of the page's last row, as a JSON array, and null
    if no page follows: one row more is read to know. Without a limit it reads no row,
    but still takes all values, so that one of a wrong type is an error.
    """
    numbers = count(1)

    def parameter(_: str) -> sql.Composable:
        return sql.SQL(f"${next(numbers)}")

    filters = [_condition(each, parameter) for each in query.filters]
    after = [None if null else parameter("") for null in nulls]
    ordered = [term.column for term in query.order]
    columns = [*(query.columns if with_rows else ()), *ordered] or query.columns
    limit = query.limit or 0
    row = [_cast(sql.Identifier(column.name), "text") for column in ordered]
    statement = PAGE.format(
        columns=_names(dict.fromkeys(columns)),
        where=_where([*filters, *keyset_predicate(query.order, after)]),
        order=_order_by(query.order),
        one_more=limit and limit + 1,
        version=VERSION,
        total=COUNT.format(where=_where(filters)) if query.count else NULL,
        cursor=CURSOR.format(limit=limit, values=sql.SQL(", ").join(row))
        if limit and any(column.key_position for column in ordered)
        else NULL,
        rows=ROWS.format(columns=_names(query.columns), limit=limit)
        if with_rows
        else NULL,
    )
    values = [each.value for each in query.filters if each.operator != "is"]
    return statement.as_bytes(None), values


def rows(query: Query, after: str | None = None) -> sql.Composed:
    """All rows, for COPY: as JSON in one column, or the columns of CSV.

    COPY takes no parameters, so values are literals that psycopg quotes.
    """
    columns = _names(query.columns)
    if query.format == "csv":
        columns = sql.SQL(", ").join(_csv_values(query.columns))
    filters = [_condition(each, sql.Literal) for each in query.filters]
    values = decode_cursor(after, query.rows_digest, len(query.order))
    cursor = [None if value is None else sql.Literal(value) for value in values]
    selected = sql.SQL("select {} from features{}{}{}").format(
        columns,
        _where([*filters, *keyset_predicate(query.order, cursor)]),
        _order_by(query.order),
        sql.SQL("" if query.limit is None else f" limit {query.limit}"),
    )
    return selected if query.format == "csv" else as_objects(selected)


def first_rows(catalog: Catalog, limit: int) -> sql.Composed:
    """The first rows by their key, all their columns."""
    return sql.SQL("select {} from features{} limit {}").format(
        _names(catalog.columns), _order_by([Term(each) for each in catalog.key]), limit
    )


def encode_cursor(values: Sequence[str | None], rows_digest: str) -> str:
    """An opaque word for a row of the list that the digest identifies.

    The values are those of the order's columns, as Postgres writes them.
    """
    text = json.dumps([rows_digest, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(
    cursor: str | None, rows_digest: str, terms: int
) -> Sequence[str | None]:
    """The values in a cursor, none without one.

    Raises BadParameter for anything else than a cursor of this list.
    """
    if cursor is None:
        return ()
    digest: str | None = None
    values: list[str | None] = []
    with suppress(ValueError, TypeError, RecursionError):
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True)
        digest, *values = json.loads(text)
    strings = [each for each in values if each is not None]
    valid = all(isinstance(each, str) and is_text(each) for each in strings)
    if digest != rows_digest or len(values) != terms or not valid:
        raise BadParameter(
            "after is not from the Link header of a query with these filters and this"
            " order: follow that header, or start without after"
        )
    return values


def keyset_predicate(
    order: Sequence[Term], cursor: Sequence[sql.Composable | None]
) -> list[sql.Composable]:
    """The condition for rows after a cursor, in which None is null; none without one.

    One row comparison if all columns go one way and have no nulls: an index on them
    finds the first row. Else column by column, where each bounds the scan of an index
    that starts with it, and those after it decide among equal values.
    """
    if not cursor:
        return []
    values = [
        None if value is None else _cast(value, term.column.value_type)
        for term, value in zip(order, cursor, strict=True)
    ]
    present = [value for value in values if value is not None]
    required = all(term.column.is_required for term in order)
    one_way = len({term.descending for term in order}) == 1
    if one_way and required and len(present) == len(order):
        row_comparison = sql.SQL("({}) {} ({})").format(
            _names(term.column for term in order),
            sql.SQL("<" if order[0].descending else ">"),
            sql.SQL(", ").join(present),
        )
        return [row_comparison]
    predicate: sql.Composable = sql.SQL("false")
    for term, value in reversed(list(zip(order, values, strict=True))):
        if value is not None:
            after = "{column} {sign}= {value} and ({column} {sign} {value} or {equal})"
            if not term.nulls_first and not term.column.is_required:
                after = f"({after} or {{column}} is null)"
        elif term.nulls_first:
            after = "({column} is not null or {equal})"
        else:
            after = "{column} is null and {equal}"
        predicate = sql.SQL(after).format(
            column=sql.Identifier(term.column.name),
            sign=sql.SQL("<" if term.descending else ">"),
            value=value,
            equal=predicate,
        )
    return [predicate]


def _condition(condition: Filter, value: Value) -> sql.Composable:
    if condition.operator == "is":
        operand: sql.Composable = sql.SQL(condition.value.replace("_", " "))
    else:
        operand = sql.SQL("({})").format(_cast(value(condition.value), condition.type))
    return sql.SQL("{}{} {} {}").format(
        sql.SQL("not " if condition.negated else ""),
        sql.Identifier(condition.column.name),
        sql.SQL(OPERATORS[condition.operator]),
        operand,
    )


def _where(conditions: Sequence[sql.Composable]) -> sql.Composable:
    if not conditions:
        return sql.SQL("")
    return sql.SQL(" where ") + sql.SQL(" and ").join(
        sql.SQL("({})").format(condition) for condition in conditions
    )


def _order_by(order: Sequence[Term]) -> sql.Composable:
    """As short as an index is declared; a name may also be that of a value for CSV."""
    terms = []
    for term in order:
        direction = " desc" if term.descending else ""
        if term.nulls_first != term.descending and not term.column.is_required:
            direction += " nulls first" if term.nulls_first else " nulls last"
        name = sql.Identifier("features", term.column.name)
        terms.append(name + sql.SQL(direction))
    return sql.SQL(" order by ") + sql.SQL(", ").join(terms) if terms else sql.SQL("")


def _csv_values(columns: Sequence[Column]) -> list[sql.Composed]:
    """What CSV readers expect: booleans are true and false, and no line is empty.

    A null that is alone in its row becomes an empty string, which COPY quotes, for many
    readers skip empty lines.
    """
    value = "{0}::{1}" if len(columns) > 1 else "concat({0}::{1})"
    return [
        sql.SQL(f"{value} as {{0}}").format(
            sql.Identifier(column.name), sql.SQL(column.csv_type or column.value_type)
        )
        for column in columns
    ]


def _cast(value: sql.Composable, kind: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(value, sql.SQL(kind))


def _names(columns: Iterable[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
