"""Headers: columns and delimiter recognised, whatever surrounds the names."""

from __future__ import annotations

import pytest

from etl.csvfiles.headers import recognise_header
from etl.errors import DataFault

KNOWN = ["id", "name"]


@pytest.mark.parametrize(
    ("line", "columns", "delimiter"),
    [
        ("id,\tname", ("id", "name"), ","),
        ('"name";"id"\r', ("name", "id"), ";"),
        ("ID\t name ", ("id", "name"), "\t"),
        ('id|\t"name"', ("id", "name"), "|"),
        ('id,\t"name"', ("id", "name"), ","),
    ],
)
def test_header(line: str, columns: tuple[str, ...], delimiter: str) -> None:
    header = recognise_header("file.csv", line, KNOWN)
    assert (header.columns, header.delimiter) == (columns, delimiter)
    assert header.unknown == ()


def test_names_may_hold_delimiters_and_line_ends() -> None:
    header = recognise_header("file.csv", 'id,\t"a, b",name,"c\nd"', KNOWN)
    assert header.unknown == ("a, b", "c\nd")
    assert header.columns == ("id", "column 2", "name", "column 4")
    header = recognise_header("file.csv", "\tid\tname", KNOWN)
    assert (header.columns, header.delimiter) == (("column 1", "id", "name"), "\t")


def test_unknown_columns_keep_their_places() -> None:
    header = recognise_header("file.csv", "size,id,,name,Size,", KNOWN)
    assert header.unknown == ("size", "", "size", "")
    assert header.columns == (
        *("column 1", "id", "column 3", "name", "column 5", "column 6"),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("id", "lacks the column 'name'"),
        ("id,name,id", "names the column 'id' twice"),
        ("id,name\r1,a\r", "its lines end in a carriage return alone"),
        ("x,y", "names none of the columns id, name"),
        ("1,Ann", "names none of the columns id, name"),
    ],
)
def test_a_wrong_header_is_refused(line: str, said: str) -> None:
    with pytest.raises(DataFault, match=f"^file.csv: .*{said}"):
        recognise_header("file.csv", line, KNOWN)
