"""Tables and values as text, in a terminal of any width and in a pipe."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from etl.terminal import as_table, brief, printable

NAMES = ("station_id", "name", "share")
ROWS = [(1, "Bø", 0.25), (20, None, 0.181818181818182), (3, "東京 [red]:cat:", None)]


def console(width: int, *, is_terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=is_terminal,
        no_color=True,
        markup=False,
        emoji=False,
        highlight=False,
    )


def test_numbers_are_aligned_to_the_right_and_null_is_empty() -> None:
    assert as_table(console(1000), NAMES, ROWS).splitlines() == [
        "station_id  name               share",
        "─" * 36,
        "         1  Bø                  0.25",
        "        20                   0.18182",
        "         3  東京 [red]:cat:",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert as_table(console(80), ("a", "bc"), []).splitlines()[0] == "a  bc"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (5.446459937202317e-07, "5.4465e-07"),
        (123456.789, "123456.79"),
        (1.0, "1"),
        (9223372036854775807, "9223372036854775807"),
        ("\x1b[2J\n", "?[2J?"),
        ("x" * 80, "x" * 59 + "…"),
    ],
)
def test_values_are_brief(value: object, text: str) -> None:
    assert brief(value) == text


def test_long_names_are_broken_in_a_terminal() -> None:
    names = ("number_of_stations", "most_common_name")
    lines = as_table(console(80), names, [(1, "Bø")]).splitlines()
    assert lines[0] == "number_of_stations  most_common_name"
    lines = as_table(console(80, is_terminal=True), names, [(1, "Bø")]).splitlines()
    assert "stations" not in lines[0]


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.integers(), st.floats(), st.text()),
        max_size=5,
    ),
    st.integers(min_value=40, max_value=120),
)
def test_no_line_is_wider_than_the_console(
    rows: list[tuple[object, ...]], width: int
) -> None:
    names = ("a_rather_long_name", "count", "another_long_name", "x")
    lines = as_table(console(width), names, rows).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
