"""Blocks: cut between records, whatever the size, and headers recognised."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.blocks import LONGEST_RECORD, Block, BlockReader, recognise_header
from etl.errors import DataFault

KNOWN = ["id", "name"]


def read_all(path: Path, block_bytes: int) -> list[Block]:
    reader = BlockReader(path, block_bytes)
    blocks = []
    while (block := reader.next_block()) is not None:
        blocks.append(block)
    assert reader.bytes == path.stat().st_size
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    reader.close()
    return blocks


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(), st.text("ab\",;\n\t'", max_size=9)), max_size=20
    ),
    block_bytes=st.integers(1, 60),
    last_newline=st.booleans(),
)
def test_blocks_are_whole_records_at_their_lines(
    tmp_path: Path,
    records: list[tuple[int, str]],
    block_bytes: int,
    last_newline: bool,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([KNOWN, *records])
    content = text.getvalue() if last_newline else text.getvalue()[:-1]
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode())
    blocks = read_all(path, block_bytes)
    lines = content.split("\n")
    found: list[list[str]] = []
    for block in blocks:
        own = block.data.decode()
        found += csv.reader(io.StringIO(own, newline=""))
        first = own.split("\n")[0]
        assert lines[block.line - 1] == first
    assert found == [[str(number), name] for number, name in records]


def test_blank_lines_are_no_records_but_in_quotes() -> None:
    block = Block(b'\n1,a\n \t\r\n\n2,"b\n\n \nc"\n\t\n3,d\n  ', line=7)
    assert block.tidied() == b'1,a\n2,"b\n\n \nc"\n3,d\n'
    mixed = Block(b'1,"a\r\n""b"\r\n2,c\n3,d\r\n', line=2)
    assert mixed.tidied() == b'1,"a\r\n""b"\n2,c\n3,d\n'
    # what COPY counts as its lines 1, 2 and 6 stand here in the file
    assert [block.file_line(number) for number in (1, 2, 6)] == [8, 11, 16]


def test_a_quote_left_open_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(b'id,name\n1,a\n2,"b\n' + b"3,c\n" * LONGEST_RECORD)
    reader = BlockReader(path, 1 << 16)
    assert reader.next_block() == Block(b"1,a\n", 2)
    with pytest.raises(DataFault, match=r"^file\.csv, line 3: .*a quote left open"):
        reader.next_block()
    assert reader.bytes < 2 * LONGEST_RECORD
    reader.close()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf \n\t\n"])
def test_a_file_without_a_header_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(DataFault, match="file.csv: is empty"):
        BlockReader(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="file.csv: missing in"):
        BlockReader(tmp_path / "file.csv")
    (tmp_path / "file.csv").mkdir()
    with pytest.raises(DataFault, match="file.csv: cannot be read"):
        BlockReader(tmp_path / "file.csv")


@pytest.mark.parametrize(
    ("line", "columns", "delimiter"),
    [
        ("id,\tname", ("id", "name"), ","),
        ('"name";"id"\r', ("name", "id"), ";"),
        ("ID\t name ", ("id", "name"), "\t"),
        ('id|\t"name"', ("id", "name"), "|"),
    ],
)
def test_header(line: str, columns: tuple[str, ...], delimiter: str) -> None:
    header = recognise_header("file.csv", line, KNOWN)
    assert (header.columns, header.delimiter) == (columns, delimiter)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("id", "lacks the column 'name'"),
        ("id,name,id", "names the column 'id' twice"),
        ("id,name,size", "has a column 'size', which is none of id, name"),
        ("id,name\rx", "names none of the columns id, name"),
        ("x,y", "names none of the columns id, name"),
        ("1,Ann", "names none of the columns id, name"),
    ],
)
def test_a_wrong_header_is_refused(line: str, said: str) -> None:
    with pytest.raises(DataFault, match=f"^file.csv: .*{said}"):
        recognise_header("file.csv", line, KNOWN)
