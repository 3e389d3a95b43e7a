"""Cursors: what was encoded is decoded, and nothing else is accepted."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import BadParameter
from etl.reading.cursors import decode_cursor, encode_cursor

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.none() | TEXTS, min_size=1))
def test_what_was_encoded_is_decoded(values: list[str | None]) -> None:
    cursor = encode_cursor(values, "0f")
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, "0f", len(values)) == values


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "é", "====", "W10", "\ud800", encoded({"a": 1}), encoded("0f")),
        *(encoded([]), encoded(["0f"]), encoded(["0f", "1", "2"]), encoded(["0f", 1])),
        *(encoded(["0f", ["1"]]), encoded(["0f", "\0"]), encoded(["0f", "\ud800"])),
        *(encoded([None, "1"]), encoded(["0F", "1"]), encoded(["0f", True])),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        encoded(["0f", "1"]) + "\n",
    ],
)
def test_nothing_else_is_accepted(cursor: str) -> None:
    with pytest.raises(BadParameter):
        decode_cursor(cursor, "0f", 1)


@given(st.text())
def test_any_text_is_refused_as_a_parameter(cursor: str) -> None:
    with pytest.raises(BadParameter):
        decode_cursor(cursor, "0f", 1)
