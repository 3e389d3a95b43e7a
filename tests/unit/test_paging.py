"""Places as opaque words: what was written is read again, and nothing else is."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.features.paging import decode_place, encode_place
from etl.http.problems import BadParameter

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.none() | TEXTS, min_size=1))
def test_what_was_written_is_read(place: list[str | None]) -> None:
    word = encode_place(place, "0f")
    assert word.replace("-", "").replace("_", "").isalnum()
    assert decode_place(word, "0f", len(place)) == place


def written(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "word",
    [
        *("", "x", "é", "====", "W10", "\ud800", written({"a": 1}), written("0f")),
        *(written([]), written(["0f"]), written(["0f", "1", "2"]), written(["0f", 1])),
        *(written(["0f", ["1"]]), written(["0f", "\0"]), written(["0f", "\ud800"])),
        *(written([None, "1"]), written(["0F", "1"]), written(["0f", True])),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        written(["0f", "1"]) + "\n",
    ],
)
def test_nothing_else_is_read(word: str) -> None:
    with pytest.raises(BadParameter):
        decode_place(word, "0f", 1)


@given(st.text())
def test_any_text_is_refused_as_a_parameter(word: str) -> None:
    with pytest.raises(BadParameter):
        decode_place(word, "0f", 1)
