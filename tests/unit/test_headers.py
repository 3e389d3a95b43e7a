"""Headers: where they end, columns and delimiter, whatever surrounds the names."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.csvfiles.headers import MAX_HEADER_BYTES, Header, find_header
from etl.errors import DataFault

KNOWN = ["id", "full_name"]


def header_of(text: str) -> Header:
    """The header of a file that holds this and no more."""
    header, end = find_header("file.csv", text.encode(), KNOWN)
    assert end <= len(text.encode())
    return header


@pytest.mark.parametrize(
    ("line", "columns", "delimiter"),
    [
        ("id,\tfull_name", ("id", "full_name"), ","),
        ('"full_name";"id"\r', ("full_name", "id"), ";"),
        ("ID\t full_name ", ("id", "full_name"), "\t"),
        ('id|\t"full_name"', ("id", "full_name"), "|"),
        ('id,\t"full_name"\t\r\r', ("id", "full_name"), ","),
        ("Full Name, id ", ("full_name", "id"), ","),
        ('"Full  name",Id', ("full_name", "id"), ","),
        ("\ufeff\ufeffid,full_name", ("id", "full_name"), ","),
        ('\ufeff"id","full_name"', ("id", "full_name"), ","),
        ("\n , ,\r\n\ufeff\nid,full_name", ("id", "full_name"), ","),
        ("sep=;\nid;full_name", ("id", "full_name"), ";"),
        ('\ufeff"sep=|"\r\n\r\nid|full_name', ("id", "full_name"), "|"),
        ("SEP=,,,,\nid,full_name", ("id", "full_name"), ","),
        ("sep=\t\nid\tfull_name", ("id", "full_name"), "\t"),
        ('\n\r"id","full_name"', ("id", "full_name"), ","),
        ("id,full_name\x1a", ("id", "full_name"), ","),
    ],
)
def test_header(line: str, columns: tuple[str, ...], delimiter: str) -> None:
    header = header_of(line)
    assert (header.columns, header.delimiter) == (columns, delimiter)
    assert header.unknown == ()
    assert header.fields == columns


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("", "id,full_name\n"),
        ("\n \n,,\r\n", "ID, Full Name \r\n"),
        ("", "\ufeffid,full_name\n"),
        ("", 'sep=;\r\n"id";"full_name";"c\r\nd"\r\n'),
        ("", "\ufeffsep=;\nid;full_name\n"),
    ],
)
def test_the_text_of_a_header_has_no_blank_lines(before: str, text: str) -> None:
    assert header_of(f"{before}{text}1,2\n").text == text
    assert header_of(f"{before}{text}".removesuffix("\n")).text == text


def test_names_may_hold_delimiters_and_line_ends() -> None:
    header = header_of('id,\t"a, b",full_name,"c\nd","e ""f"""')
    assert header.unknown == ("a, b", "c\nd", 'e "f"')
    assert header.columns == ("id", "column 2", "full_name", "column 4", "column 5")
    header = header_of("\tid\tfull_name")
    assert (header.columns, header.delimiter) == (("column 1", "id", "full_name"), "\t")


def test_unknown_columns_keep_their_positions() -> None:
    header = header_of("size,id,,full_name,Size")
    assert header.unknown == ("size", "", "Size")
    assert header.columns == ("column 1", "id", "column 3", "full_name", "column 5")


@pytest.mark.parametrize(
    ("records", "columns", "fields"),
    [
        ("1,a\n2,b\n", 2, 4),
        ("", 2, 4),
        ("1,a,,\n2,b,,\n3,c\n", 4, 4),
        ("1,a, ,\t\n\n", 4, 4),
        ('1,"a\n, ,""b",\n2,c,\n', 3, 4),
        ("1\n2,a,b,c,d\n3\n", 2, 4),
        ("1,a\n2,b,c\n3,d\n", 2, 4),
        ("1,a,,\n2,b,\x1a,\ufeff\n", 4, 4),
    ],
)
def test_an_empty_name_at_the_end_is_no_column_without_values(
    records: str, columns: int, fields: int
) -> None:
    header = header_of(f"id,full_name,,\n{records}")
    names = ("id", "full_name", "column 3", "column 4")
    assert header.columns == names[:columns]
    assert header.fields == ("id", "full_name", "", "")[:fields]
    assert header.unknown == ()
    assert header.is_blank == (False, False, True, True)[:columns]


def test_an_empty_name_at_the_end_with_values_is_a_column() -> None:
    header = header_of("id,full_name,\n1,a,\n2,b,x\n")
    assert header.columns == header.fields == ("id", "full_name", "column 3")
    assert header.unknown == ("",)
    assert header.is_blank == (False, False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n", ", line 1: lacks the column 'full_name' (found: id): add it"),
        ("id,full_name,Id\n", ", line 1: names the column 'id' twice (id, Id): leave"),
        (
            "\nid,full_name,Full Name\n",
            ", line 2: names the column 'full_name' twice (full_name, Full Name)",
        ),
        ("id,full_name\r1,a\r", ": its lines end in a carriage return alone"),
        (
            "User,Mail\n",
            ", line 1: names none of the columns id, full_name (found: User, Mail): ",
        ),
        (
            "1,Ann\n",
            ", line 1: names none of the columns id, full_name (found: 1, Ann)",
        ),
        (
            "i\u200bd,full_name\n",
            ", line 1: lacks the column 'id' (found: i<U+200B>d, full_name)",
        ),
        (
            '[{"id": 1}]\n',
            ', line 1: names none of the columns id, full_name (found: [{"id": 1}])',
        ),
        ("User,Mail\r\n1,2\r\n", ", line 1: names none of the columns"),
        (
            "id,full_name\r" + "1,a\r" * 20_000,
            ": its lines end in a carriage return alone",
        ),
        ("sep=^\nid^full_name", ": its first line says that the delimiter is '^': "),
        (
            'id,full_name"\n1,a\n',
            ', line 1, column 2: a quote is out of place in the header, in full_name"',
        ),
        (
            '""id","full_name"\n"1","a"\n',
            ', line 1, column 1: a quote is out of place in the header, in ""id": ',
        ),
        (
            'id,full_name,tube 5"\n1,a,\n2,"b",\n',
            ', line 1, column 3: a quote is out of place in the header, in tube 5": ',
        ),
        (
            '\n\n"id,full_name\n1,a\n',
            ", line 3, column 1: a quote opens in the header that never closes",
        ),
        (
            'id,full_name,"note\n1,a,b"\n2,c,d\n',
            ", line 1, column 3: a quote opens in the header and closes in line 2",
        ),
        (
            'id,full_name,note,"\n1,a\n2,b 5"\n3,c\n',
            ", line 1, column 4: a quote opens in the header and closes in line 3",
        ),
        (
            '"id,full_name\n1,a\n2,b"\n3,c\n',
            ", line 1, column 1: a quote opens in the header and closes in line 3",
        ),
        (
            "id,full_name," + "x" * MAX_HEADER_BYTES,
            ", line 1: the header is longer than",
        ),
    ],
)
def test_a_wrong_header_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataFault) as refused:
        header_of(text)
    assert str(refused.value).startswith(f"file.csv{message}")
    assert "\n" not in str(refused.value)


PIECES = st.sampled_from(
    [*'",;|\t\r\n ', '""', "\r\n", "\ufeff", "x", 'y"', '"y', "id", "full_name"]
)


@given(
    insertions=st.lists(st.tuples(st.integers(0, 20), PIECES), max_size=4),
    quoted=st.booleans(),
)
@example(insertions=[(12, ',"x')], quoted=True)
def test_a_header_is_refused_or_all_records_follow_it(
    insertions: list[tuple[int, str]], quoted: bool
) -> None:
    """Whatever is put into a header."""
    header = "id,full_name"
    for position, piece in insertions:
        header = header[:position] + piece + header[position:]
    value = '"a, ""b"""' if quoted else "a"
    records = "".join(f"{number},{value}\n" for number in range(30))
    data = f"{header}\n{records}".encode()
    try:
        _, end = find_header("file.csv", data, KNOWN)
    except DataFault:
        return
    assert data[end:].endswith(records.encode())
