"""Cursors: where a page ends, as an opaque word, and the condition for what follows.

A page starts after the last row of the one before, so it costs the same at any depth,
and rows that come or go before it do not move it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress

from psycopg import sql

from etl.errors import BadParameter
from etl.reading.expressions import cast, field_of
from etl.reading.scanner import is_text
from etl.reading.tree import Term


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
