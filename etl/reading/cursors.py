"""Cursors: where a page ends, as an opaque word.

A page starts after the last row of the one before, so it costs the same at any depth,
and rows that come or go before it do not move it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress

from etl.errors import BadParameter
from etl.reading.scanner import is_text


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
