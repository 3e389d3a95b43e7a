"""Pages by their last row: where the next one starts, in a link and in SQL.

A page costs the same at any depth, and none is moved by rows that come or go before it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from etl.features.catalog import Catalog, Column
from etl.http.problems import BadParameter


@dataclass(frozen=True)
class Term:
    """One column of an order, and which way it goes."""

    column: Column
    descending: bool
    nulls_first: bool

    def as_sql(self) -> sql.Composed:
        """As it stands in ``order by``; as short as an index is declared."""
        words = " desc" if self.descending else ""
        if self.nulls_first != self.descending and not self.column.is_required:
            words += " nulls first" if self.nulls_first else " nulls last"
        return sql.Identifier(self.column.name) + sql.SQL(words)


Order = tuple[Term, ...]


def order_by_key(catalog: Catalog) -> Order:
    """The order that every other one ends in; empty where there is no primary key."""
    return tuple(Term(column, False, False) for column in catalog.key)


#: The values of a row in the columns of an order, as Postgres writes them.
Place = Sequence[str | None]


def encode_place(place: Place, rows_digest: str) -> str:
    """An opaque word for a place in the rows that the digest names."""
    text = json.dumps([rows_digest, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_place(text: str, rows_digest: str, terms: int) -> Place:
    """Read what ``encode_place`` wrote. Raises BadParameter for anything else."""
    wrong = BadParameter(
        "after is what the Link header of a page gave, and is not that"
    )
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(found, list) or not all(map(_may_be_value, found)):
        raise wrong
    if found[:1] != [rows_digest]:
        raise BadParameter(
            "after is of a query with other filters or another order: follow the Link"
            " header, or start without after"
        )
    if len(found) != terms + 1:
        raise wrong
    return found[1:]


def _may_be_value(value: object) -> bool:
    if isinstance(value, str):
        return "\0" not in value and value.encode(errors="replace").decode() == value
    return value is None


def beyond(order: Order, place: Sequence[sql.Composable | None]) -> sql.Composable:
    """The condition for rows that come after this place, None for null.

    Row comparison where all go up, or all down, and none can be null: an index on them
    finds the place. Else the terms are compared one by one; where the first cannot be
    null its bound is told by itself, for an index on it.
    """
    values = [value for value in place if value is not None]
    plain = len(values) == len(order) and all(
        term.column.is_required and term.descending == order[0].descending
        for term in order
    )
    if plain:
        return sql.SQL("({}) {} ({})").format(
            sql.SQL(", ").join(sql.Identifier(term.column.name) for term in order),
            sql.SQL("<" if order[0].descending else ">"),
            sql.SQL(", ").join(values),
        )
    choices: list[sql.Composable] = []
    alike: list[sql.Composable] = []
    for term, value in zip(order, place, strict=True):
        if (later := _later(term, value)) is not None:
            choices.append(sql.SQL("({})").format(_both([*alike, later])))
        alike.append(_alike(term, value))
    if not choices:
        return sql.SQL("false")
    condition = sql.SQL("({})").format(sql.SQL(" or ").join(choices))
    first, value = order[0], place[0]
    if first.column.is_required and value is not None:
        bound = sql.SQL("{} {} {}").format(
            sql.Identifier(first.column.name),
            sql.SQL("<=" if first.descending else ">="),
            value,
        )
        return _both([bound, condition])
    return condition


def _later(term: Term, value: sql.Composable | None) -> sql.Composable | None:
    """That a row comes after this value in one term; None where none can."""
    name = sql.Identifier(term.column.name)
    if value is None:
        return sql.SQL("{} is not null").format(name) if term.nulls_first else None
    compared = sql.SQL("{} {} {}").format(
        name, sql.SQL("<" if term.descending else ">"), value
    )
    if term.nulls_first or term.column.is_required:
        return compared
    return sql.SQL("({} or {} is null)").format(compared, name)


def _alike(term: Term, value: sql.Composable | None) -> sql.Composable:
    name = sql.Identifier(term.column.name)
    if value is None:
        return sql.SQL("{} is null").format(name)
    return sql.SQL("{} = {}").format(name, value)


def _both(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" and ").join(conditions)
