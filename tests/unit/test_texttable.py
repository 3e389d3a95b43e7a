"""Tables as text, in a terminal of any width and without one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.run.records import Run
from etl.run.streams import LoadedFile
from etl.terminal import progress
from etl.texttable import cut, table, width_of

NAMES = ("station_id", "name", "share")
ROWS = [(1, "Bø", 0.25), (20, None, 0.181818181818182), (3, "東京", None)]


def test_numbers_stand_to_the_right_and_null_is_empty() -> None:
    assert table(NAMES, ROWS).splitlines() == [
        "station_id  name     share",
        "----------  ----  --------",
        "         1  Bø        0.25",
        "        20        0.181818",
        "         3  東京",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert table(("a", "bc"), []) == "a  bc\n-  --"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.446459937202317e-07, "5.44646e-07"),
        (123456.789, "123456.79"),
        (1.0, "1"),
        (9223372036854775807, "9223372036854775807"),
        ("\x1b[2J\n", "?[2J?"),
        ("x" * 40, "x" * 31 + "…"),
    ],
)
def test_values_are_printed_for_people(value: object, text: str) -> None:
    assert table(("a",), [(value,)]).splitlines()[-1] == text


def test_long_names_are_broken_where_the_table_is_too_wide() -> None:
    names = ("number_of_stations", "most_common_name")
    assert table(names, [(1, "Bø")], width=36).splitlines()[0] == "  ".join(names)
    assert table(names, [(1, "Bø")], width=26).splitlines() == [
        "number_of_  most_common_",
        "  stations  name",
        "----------  ------------",
        "         1  Bø",
    ]


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.integers(), st.floats(), st.text()),
        max_size=5,
    ),
    st.integers(min_value=40, max_value=120),
)
def test_no_line_is_wider_than_the_terminal(
    rows: list[tuple[object, ...]], width: int
) -> None:
    names = ("a_rather_long_name", "count", "another_long_name", "x")
    lines = table(names, rows, width=width).splitlines()
    assert max(map(width_of, lines)) <= width


def test_what_has_no_room_is_named() -> None:
    names = ("station_id", "name", "most_common_name", "share")
    rows = [(1, "long " * 9, "Bø", 0.5)]
    assert table(names, rows, width=30).splitlines() == [
        "station_id  name",
        "----------  ------------------",
        "         1  long long long lo…",
        "",
        "not shown: most_common_name, …",
    ]


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_what_is_cut_fits(text: str, width: int) -> None:
    assert width_of(cut(text, width)) <= width


def test_the_progress_of_a_run_is_one_line() -> None:
    run = Run(7, dry=False, summary={}, bytes_to_load=200, began=time.monotonic())
    run.phase = "load"
    run.files.append(LoadedFile("a.csv", 200, bytes=100, records=1234))
    line = progress(run, 100)
    assert line.startswith("run 7  load     [############............]  50%  1,234 rec")
    assert line.endswith("a.csv")
    run.phase = "build"
    run.sql_file = "build/010_features.sql"
    assert "build    [##########..............]" in progress(run, 100)
    assert progress(run, 100).endswith("build/010_features.sql")
    assert width_of(progress(run, 40)) < 40
