"""The statements behind ``/features``, composed of what the catalog allows.

Values stand in them as parameters, cast to their column's type. Rows become text inside
Postgres. The table's name is all that is known of it here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count

from psycopg import sql

from etl.features.catalog import Catalog, Column
from etl.features.filters import COMPARISONS, PATTERNS, Filter
from etl.features.paging import beyond, order_by_key
from etl.features.queries import Query, Shape

#: Statements that are kept as text: a reader pages through many pages of one shape.
KEPT_STATEMENTS = 256

#: The columns of the state, which every statement reads in its own snapshot.
STATE = sql.SQL(
    "state.run_id, state.modified, state.version, state.columns, state.is_dated"
)

STATE_STATEMENT = sql.SQL("select {} from etl.features_state as state").format(STATE)


@lru_cache(KEPT_STATEMENTS)
def rows_by_key(columns: Sequence[Column], key: Column) -> bytes:
    """Rows as JSON by their keys, which are one parameter, an array of text.

    One row for each key, in their order: the state, and the row or null. What is no
    value of the key's type is the key of no row.
    """
    return _text(
        sql.SQL(
            """
            select {state}, (
                select row_to_json(picked.*) from (
                    select {columns} from features
                    where {key} = case
                        when pg_input_is_valid(asked.key, {type_name})
                            then asked.key::{type}
                    end
                ) as picked
            )::text
            from etl.features_state as state
            cross join unnest($1::text[]) with ordinality as asked (key, place)
            order by asked.place
            """
        ).format(
            state=STATE,
            columns=_names(columns),
            key=sql.Identifier(key.name),
            type_name=key.value_type,
            type=sql.SQL(key.value_type),
        )
    )


@lru_cache(KEPT_STATEMENTS)
def page(shape: Shape) -> bytes:
    """A page as JSON, in one row: the state, the total, the last row's place, the rows.

    One row more than the page has is read, to know whether another page follows; only
    then there is a place. A materialized page is read in the order that it was made in.
    """
    places = _Places(shape, _numbered())
    ordered = [term.column for term in shape.order if term.column not in shape.columns]
    return _text(
        sql.SQL(
            """
            with {page}
            select {state}, {total}, {place},
                (
                    select string_agg(row_to_json(picked.*)::text, e',\\n')
                    from (select {columns} from page limit {limit}) as picked
                )
            from etl.features_state as state
            """
        ).format(
            page=_page_and_one(shape, [*shape.columns, *ordered], places),
            limit=shape.limit or 0,
            state=STATE,
            total=places.total,
            place=_place_of(shape),
            columns=_names(shape.columns),
        )
    )


@lru_cache(KEPT_STATEMENTS)
def opening(shape: Shape) -> bytes:
    """What is told before a stream: the state, the total, the place of the last row.

    It takes all values, so a value that its type refuses is refused here.
    """
    places = _Places(shape, _numbered())
    return _text(
        sql.SQL(
            """
            with {page}
            select {state}, {total}, {place}
            from etl.features_state as state
            """
        ).format(
            page=_page_and_one(shape, [term.column for term in shape.order], places),
            state=STATE,
            total=places.total,
            place=_place_of(shape),
        )
    )


def first_rows(catalog: Catalog, limit: int) -> sql.Composed:
    """The first rows as they are, all their columns, ordered by the key."""
    shape = Shape(catalog.columns, (), order_by_key(catalog), None, limit, count=False)
    return _selected(Query(shape, (), "csv"))


def rows(query: Query) -> sql.Composed:
    """All rows of a query, for COPY: as JSON in one column, or the columns for CSV."""
    selected = _selected(query)
    if query.format == "csv":
        return _as_csv(selected, query.shape.columns)
    return sql.SQL("select row_to_json(picked.*) from ({}) as picked").format(selected)


def _selected(query: Query) -> sql.Composed:
    """The rows as they are stored.

    COPY takes no parameters, so the values are literals here that psycopg quotes.
    """
    shape = query.shape
    places = _Places(shape, (sql.Literal(value.text) for value in query.values))
    return sql.SQL("select {columns} from features {where} {order} {limit}").format(
        columns=_names(shape.columns),
        where=places.where,
        order=_order(shape),
        limit=sql.SQL("limit {}").format(shape.limit)
        if shape.limit is not None
        else sql.SQL(""),
    )


def _as_csv(selected: sql.Composed, columns: Sequence[Column]) -> sql.Composed:
    """The rows as CSV readers take them: booleans are true and false, not t and f.

    A null that is alone in its row is an empty string, which COPY quotes: readers skip
    empty lines. The rows inside have their order already: out here, a name in an
    ORDER BY would be the text's.
    """
    if len(columns) > 1 and not any(column.csv_type for column in columns):
        return selected
    values = [_csv_value(column) for column in columns]
    if len(columns) == 1:
        values = [sql.SQL("concat({})").format(value) for value in values]
    return sql.SQL("select {} from ({}) as picked").format(
        sql.SQL(", ").join(
            sql.SQL("{} as {}").format(value, sql.Identifier(column.name))
            for value, column in zip(values, columns, strict=True)
        ),
        selected,
    )


def _csv_value(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    if column.csv_type is None:
        return name
    return _cast(name, column.csv_type)


class _Places:
    """The conditions of a query, its values being where ``values`` says."""

    def __init__(self, shape: Shape, values: Iterator[sql.Composable]) -> None:
        filters = [_condition(each, values) for each in shape.filters]
        self.total: sql.Composable = sql.SQL("null::bigint")
        if shape.count:
            self.total = sql.SQL("(select count(*) from features {})").format(
                _where(filters)
            )
        if shape.place is not None:
            place = [
                _cast(next(values), term.column.value_type) if has_value else None
                for term, has_value in zip(shape.order, shape.place, strict=True)
            ]
            filters.append(beyond(shape.order, place))
        self.where = _where(filters)


def _page_and_one(
    shape: Shape, columns: Sequence[Column], places: _Places
) -> sql.Composed:
    """The rows of a page and one more, as the CTE ``page``; none without a limit."""
    return sql.SQL(
        "page as materialized (select {} from features {} {} limit {})"
    ).format(
        _names(columns),
        places.where,
        _order(shape),
        shape.limit + 1 if shape.limit else 0,
    )


def _numbered() -> Iterator[sql.Composable]:
    """Parameters as the server numbers them."""
    return (sql.SQL("${}").format(number) for number in count(1))


def _condition(asked: Filter, values: Iterator[sql.Composable]) -> sql.Composable:
    """One filter as SQL; takes its values from ``values``."""
    name = sql.Identifier(asked.column.name)
    kind = asked.column.value_type
    if asked.state is not None:
        condition = sql.SQL("{} is {}").format(name, sql.SQL(asked.state))
    elif asked.operator == "in":
        elements = [_cast(next(values), kind) for _ in range(asked.count)]
        condition = sql.SQL("{} = any (array[{}]::{}[])").format(
            name, sql.SQL(", ").join(elements), sql.SQL(kind)
        )
    elif asked.operator in PATTERNS:
        operator = sql.SQL(PATTERNS[asked.operator])
        pattern = _cast(next(values), "text")
        condition = sql.SQL("{} {} {}").format(name, operator, pattern)
    else:
        operator = sql.SQL(COMPARISONS[asked.operator])
        condition = sql.SQL("{} {} {}").format(
            name, operator, _cast(next(values), kind)
        )
    return sql.SQL("not ({})").format(condition) if asked.negated else condition


def _cast(value: sql.Composable, kind: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(value, sql.SQL(kind))


def _where(conditions: Sequence[sql.Composable]) -> sql.Composable:
    if not conditions:
        return sql.SQL("")
    return sql.SQL("where {}").format(sql.SQL(" and ").join(conditions))


def _order(shape: Shape) -> sql.Composable:
    if not shape.order:
        return sql.SQL("")
    return sql.SQL("order by {}").format(
        sql.SQL(", ").join(term.as_sql() for term in shape.order)
    )


def _place_of(shape: Shape) -> sql.Composable:
    """The place of the page's last row, as JSON; null where no page follows."""
    if not shape.limit or not any(term.column.key_position for term in shape.order):
        return sql.SQL("null")
    return sql.SQL(
        "case when (select count(*) from page) > {limit}"
        " then (select json_build_array({row})::text from page offset {last} limit 1)"
        " end"
    ).format(
        limit=shape.limit,
        row=sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(term.column.name))
            for term in shape.order
        ),
        last=shape.limit - 1,
    )


def _names(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)


def _text(statement: sql.Composed) -> bytes:
    return statement.as_bytes(None)
