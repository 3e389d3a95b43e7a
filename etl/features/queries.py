"""The query string of ``/features``: columns, filters, order, limit, place and format.

In the conventions of PostgREST, and held against the catalog. Knows no database; what
a value's type refuses only the database can say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from yarl import URL

from etl.features.catalog import Catalog, Column
from etl.features.filters import (
    RESERVED,
    Filter,
    Value,
    find_column,
    parse_filter,
    split_list,
)
from etl.features.paging import Order, Term, decode_place, order_by_key
from etl.http.negotiation import MEDIA_TYPES
from etl.http.parameters import shown
from etl.http.problems import BadParameter, NotAcceptable

#: Queries that are kept as they were read: clients ask again, and pages alike.
KEPT_QUERIES = 256

_TERM = re.compile(
    r'("(?:[^"\\]|\\.)*"|.*?)(\.(?:asc|desc))?(\.(?:nullsfirst|nullslast))?', re.DOTALL
)


@dataclass(frozen=True)
class Shape:
    """All of a query but its values: queries of one shape are one statement.

    ``place`` says for each term of the order whether the row to go on after has a value
    there; None from the start.
    """

    columns: tuple[Column, ...]
    filters: tuple[Filter, ...]
    order: Order
    place: tuple[bool, ...] | None
    limit: int | None
    count: bool


@dataclass(frozen=True)
class Query:
    """What a reader asks for; ``values`` are in the order of the shape's places."""

    shape: Shape
    values: tuple[Value, ...]
    format: str

    @cached_property
    def rows_digest(self) -> str:
        """Names the rows and their order: pages of one list have it in common."""
        number = sum(each.count for each in self.shape.filters)
        values = [value.text for value in self.values[:number]]
        return _digest(_written(self.shape.filters, self.shape.order), values)

    @cached_property
    def digest(self) -> str:
        """Names the answer, as long as the table stays as it is."""
        shape = self.shape
        columns = [column.name for column in shape.columns]
        rest = (shape.place, shape.limit, shape.count)
        values = [value.text for value in self.values]
        return _digest(
            _written(shape.filters, shape.order), columns, rest, values, self.format
        )


@lru_cache(KEPT_QUERIES)
def read_query(catalog: Catalog, query_string: str, form: str | None) -> Query:
    """What a query string, as sent, asks for; ``form`` is the format if it names none.

    Raises BadParameter, and NotAcceptable where nobody names a format.
    """
    parameters = URL.build(path="/", query_string=query_string, encoded=True).query
    return parse_query(catalog, parameters.items(), form)


def parse_query(
    catalog: Catalog, parameters: Iterable[tuple[str, str]], form: str | None
) -> Query:
    """What these parameters ask for; ``form`` is the format if they name none."""
    given: dict[str, str] = {}
    filters: list[Filter] = []
    values: list[Value] = []
    for name, text in parameters:
        _refuse_odd_text(name, text)
        if name in RESERVED:
            if name in given:
                raise BadParameter(f"parameter {name!r} stands more than once")
            given[name] = text
        else:
            parsed, its_values = parse_filter(catalog, name, text)
            filters.append(parsed)
            values += its_values
    order = _order(catalog, given.get("order"))
    limit = _whole_number("limit", given["limit"]) if "limit" in given else None
    count = given.get("count", "false")
    if count not in ("true", "false"):
        raise BadParameter(f"count is true or false, not {shown(count)}")
    columns = _select(catalog, given.get("select"))
    shape = Shape(columns, tuple(filters), order, None, limit, count == "true")
    query = Query(shape, tuple(values), _format(given.get("format"), form))
    return _after(catalog, query, given["after"]) if "after" in given else query


def parse_select(
    catalog: Catalog, parameters: Iterable[tuple[str, str]]
) -> tuple[Column, ...]:
    """The columns of one row, where ``select`` is all that may be asked."""
    selected = None
    for name, text in parameters:
        _refuse_odd_text(name, text)
        if name != "select":
            raise BadParameter(
                f"unknown parameter {shown(name)}; allowed: select"
                " (and filters on /features)"
            )
        if selected is not None:
            raise BadParameter("parameter 'select' stands more than once")
        selected = text
    return _select(catalog, selected)


def select_digest(columns: Sequence[Column], key: str) -> str:
    """Names the answer for one row, as long as the table stays as it is."""
    return _digest(key, [column.name for column in columns])


def is_storable(text: str) -> bool:
    """Whether Postgres could hold it: no NUL, and nothing that is no character."""
    return "\0" not in text and (
        text.isascii() or not re.search("[\ud800-\udfff]", text)
    )


def _refuse_odd_text(name: str, text: str) -> None:
    for part in (name, text):
        if not is_storable(part):
            raise BadParameter(
                f"parameter {shown(name)} holds what is no text: a NUL or half a"
                " character"
            )


def _whole_number(name: str, text: str) -> int:
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    raise BadParameter(
        f"{name} is a whole number from 0 to 999999999, not {shown(text)}"
    )


def _select(catalog: Catalog, text: str | None) -> tuple[Column, ...]:
    if text is None or text == "*":
        return catalog.columns
    names = split_list(text)
    if names is None:
        raise BadParameter(f"select is a list such as a,b, not {shown(text)}")
    columns = tuple(find_column(catalog, name, "select") for name in names)
    for column in columns:
        if columns.count(column) > 1:
            raise BadParameter(f"select names the column {column.name!r} twice")
    return columns


def _order(catalog: Catalog, text: str | None) -> Order:
    """The terms asked for, and the key, so that no two rows stand alike."""
    order: list[Term] = []
    for name, way, nulls in _terms(text):
        column = find_column(catalog, name, "order")
        if column in [term.column for term in order]:
            raise BadParameter(f"order names the column {column.name!r} twice")
        descending = way == ".desc"
        nulls_first = nulls == ".nullsfirst" if nulls else descending
        order.append(Term(column, descending, nulls_first))
    there = [term.column for term in order]
    key = [term for term in order_by_key(catalog) if term.column not in there]
    return (*order, *key)


def _terms(text: str | None) -> list[tuple[str, str, str]]:
    """Name, direction and place of nulls for each term, as they are written."""
    if text is None:
        return []
    parts = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,])+', text, re.DOTALL)
    if not parts or ",".join(parts) != text:
        raise BadParameter(
            "order is a list such as a,b.desc.nullslast: after a column may come asc or"
            f" desc, and nullsfirst or nullslast; not {shown(text)}"
        )
    found = (re.fullmatch(_TERM, part) for part in parts)
    return [(term[1], term[2] or "", term[3] or "") for term in found if term]


def _after(catalog: Catalog, query: Query, text: str) -> Query:
    """The query from the place on that a page before has given."""
    order = query.shape.order
    if not catalog.key:
        raise BadParameter("after: features has no primary key, and so no pages")
    place = decode_place(text, query.rows_digest, len(order))
    values = tuple(
        Value(value, term.column.value_type, "after")
        for term, value in zip(order, place, strict=True)
        if value is not None
    )
    has_value = tuple(value is not None for value in place)
    shape = replace(query.shape, place=has_value)
    return Query(shape, query.values + values, query.format)


def _format(given: str | None, form: str | None) -> str:
    if given is None and form is None:
        raise NotAcceptable(f"features come as {', '.join(MEDIA_TYPES.values())}")
    if given is not None and given not in MEDIA_TYPES:
        allowed = ", ".join(MEDIA_TYPES)
        raise BadParameter(f"format is one of {allowed}, not {shown(given)}")
    return given or form or ""


def _written(filters: Sequence[Filter], order: Order) -> object:
    """Filters and order as names that outlive the process."""
    return (
        [
            (each.column.name, each.operator, each.negated, each.state, each.count)
            for each in filters
        ],
        [(each.column.name, each.descending, each.nulls_first) for each in order],
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
