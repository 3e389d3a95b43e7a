"""Fields, items and conditions of a query as SQL.

Names come from the catalog and operators from a list. The caller makes SQL of values,
parameters or literals; here they are cast to the type of what they are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg import sql

from etl.reading.tree import (
    OPERATORS,
    PATTERNS,
    SEARCHES,
    Field,
    Filter,
    Item,
    Junction,
    Term,
)

#: Makes SQL of a value: a parameter, or a literal.
Value = Callable[[str], sql.Composable]

NOTHING = sql.SQL("")


def cast(value: sql.Composable, kind: str) -> sql.Composed:
    """A value as another type: the grammar's name of one, or the catalog's.

    In parentheses, so that nothing that may follow a name is read as SQL after it.
    """
    return sql.SQL("cast({} as {})").format(value, sql.SQL(kind))


def field_of(field: Field) -> sql.Composable:
    """A field. An arrow takes JSON, so other types become that first."""
    column = sql.Identifier("features", field.column.name)
    if not field.path:
        return column
    is_json = field.column.type in ("json", "jsonb")
    steps = [sql.SQL(arrow) + sql.Literal(key) for arrow, key in field.path]
    start = column if is_json else sql.SQL("to_jsonb({})").format(column)
    return sql.SQL("({}{})").format(start, sql.Composed(steps))


def value_of(item: Item) -> sql.Composable:
    """What an item is computed by."""
    inner: sql.Composable = field_of(item.field) if item.field else sql.SQL("*")
    if item.cast:
        inner = cast(inner, item.cast)
    if item.aggregate:
        inner = sql.SQL("{}({})").format(sql.SQL(item.aggregate), inner)
    return cast(inner, item.aggregate_cast) if item.aggregate_cast else inner


def select_list(items: Sequence[Item], *, for_csv: bool = False) -> sql.Composable:
    """Items under their names.

    As CSV readers expect them, booleans are true and false, and no line is empty: a
    null that is alone in its row becomes an empty string, which COPY quotes, for many
    readers skip empty lines.
    """
    values = []
    for item in items:
        value, column = value_of(item), item.field and item.field.column
        is_column = column and value == sql.Identifier("features", column.name)
        if for_csv and column and is_column and column.csv_type:
            value = cast(value, column.csv_type)
        if for_csv and len(items) == 1:
            value = sql.SQL("concat({})").format(value)
        values.append(sql.SQL("{} as {}").format(value, sql.Identifier(item.name)))
    return sql.SQL(", ").join(values)


def where(conditions: Sequence[sql.Composable]) -> sql.Composable:
    """A WHERE clause of conditions that all hold; nothing without any."""
    if not conditions:
        return NOTHING
    return sql.SQL(" where ") + sql.SQL(" and ").join(
        sql.SQL("({})").format(each) for each in conditions
    )


def group_by(items: Sequence[Item]) -> sql.Composable:
    """A GROUP BY clause, as PostgREST adds it: the items beside aggregates."""
    values = [value_of(item) for item in items if not item.aggregate]
    if not values or len(values) == len(items):
        return NOTHING
    return sql.SQL(" group by ") + sql.SQL(", ").join(values)


def order_by(order: Sequence[Term]) -> sql.Composable:
    """An ORDER BY clause, as short as an index is declared."""
    terms = []
    for term in order:
        direction = " desc" if term.descending else ""
        if term.nulls_first != term.descending and not term.field.is_required:
            direction += " nulls first" if term.nulls_first else " nulls last"
        terms.append(field_of(term.field) + sql.SQL(direction))
    return sql.SQL(" order by ") + sql.SQL(", ").join(terms) if terms else NOTHING


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
        None if value is None else cast(value, term.field.type)
        for term, value in zip(order, cursor, strict=True)
    ]
    present = [value for value in values if value is not None]
    required = all(term.field.is_required for term in order)
    one_way = len({term.descending for term in order}) == 1
    if one_way and required and len(present) == len(order):
        row_comparison = sql.SQL("({}) {} ({})").format(
            sql.SQL(", ").join(field_of(term.field) for term in order),
            sql.SQL("<" if order[0].descending else ">"),
            sql.SQL(", ").join(present),
        )
        return [row_comparison]
    predicate: sql.Composable = sql.SQL("false")
    for term, value in reversed(list(zip(order, values, strict=True))):
        if value is not None:
            after = "{column} {sign}= {value} and ({column} {sign} {value} or {equal})"
            if not term.nulls_first and not term.field.is_required:
                after = f"({after} or {{column}} is null)"
        elif term.nulls_first:
            after = "({column} is not null or {equal})"
        else:
            after = "{column} is null and {equal}"
        predicate = sql.SQL(after).format(
            column=field_of(term.field),
            sign=sql.SQL("<" if term.descending else ">"),
            value=value,
            equal=predicate,
        )
    return [predicate]


def numbered(values: list[str]) -> Value:
    """Makes numbered parameters, and appends what they stand for to ``values``."""

    def parameter(value: str) -> sql.Composable:
        values.append(value)
        return sql.SQL(f"${len(values)}")

    return parameter


def condition_of(condition: Filter | Junction, value: Value) -> sql.Composable:
    """A condition, with its values in the order in which it names them."""
    if isinstance(condition, Junction):
        operator = sql.SQL(f" {condition.operator} ")
        inner: sql.Composable = operator.join(
            sql.SQL("({})").format(condition_of(each, value))
            for each in condition.conditions
        )
    else:
        inner = _comparison(condition, value)
    return sql.SQL("not ({})").format(inner) if condition.is_negated else inner


def _comparison(condition: Filter, value: Value) -> sql.Composable:
    name, field = condition.operator, field_of(condition.field)
    if name == "is":
        state = sql.SQL(condition.value.replace("_", " "))
        return sql.SQL("{} is {}").format(field, state)
    if name in SEARCHES:
        return _search(condition, value)
    kind = "text" if name in PATTERNS else condition.field.type
    operand = cast(
        value(condition.value),
        f"{kind}[]" if name == "in" or condition.modifier else kind,
    )
    return sql.SQL("{} {} {}({})").format(
        field,
        sql.SQL(OPERATORS.get(name, "=")),
        sql.SQL("any" if name == "in" else condition.modifier or ""),
        operand,
    )


def _search(condition: Filter, value: Value) -> sql.Composable:
    """A full text search, in which all that is no tsvector is made one."""
    field = field_of(condition.field)
    language: sql.Composable = NOTHING
    if condition.modifier:
        language = cast(sql.Literal(condition.modifier), "regconfig") + sql.SQL(", ")
    if condition.field.type != "tsvector":
        field = sql.SQL("to_tsvector({}{})").format(language, field)
    return sql.SQL("{} @@ {}({}{})").format(
        field,
        sql.SQL(SEARCHES[condition.operator]),
        language,
        cast(value(condition.value), "text"),
    )
