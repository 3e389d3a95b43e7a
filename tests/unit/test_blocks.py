"""Blocks: cut between records, whatever the size; regular records or irregular ones."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import lzma
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.csvfiles.blocks import (
    MAX_RECORD_BYTES,
    MAX_RECORDS_AT_ONCE,
    Block,
    BlockReader,
    CsvRecord,
)
from etl.csvfiles.fields import BLANK_LINES
from etl.csvfiles.patterns import Column, RecordPatterns, compile_patterns
from etl.csvfiles.textfile import TextFile
from etl.errors import DataFault

COLUMNS = [
    Column("id", True, False, "[+-]?[0-9]{1,18}", "[+-]?0{1,18}"),
    Column("name", False, True),
]
PATTERNS = compile_patterns(COLUMNS, ",")

#: As etl.type_formats has them, and a list.
KEY = Column(
    *("id", True, False, "[+-]?(?:[0-9]{1,18}(?![0-9])|[1-8][0-9]{18})"),
    "[+-]?0{1,18}",
)
SMALL = Column("small", False, False, "[+-]?[0-9]{1,4}", "[+-]?0{1,4}")
LIST = Column(
    *("ids", False, True, "[0-9]{1,18}(?:;[0-9]{1,18})*;?"),
    *("0{1,18}(?:;0{1,18})*;?", ";"),
)
SIZE = Column(
    *("size", False, False, r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?"),
    r"[+-]?0{1,30}(?:\.0{1,30})?",
)
NUMBERS = compile_patterns([COLUMNS[0], LIST, SIZE], ",")
WITHOUT_SKELETON = replace(NUMBERS, skeleton=None)
TEXTS = compile_patterns([COLUMNS[1], None, COLUMNS[1]], ",")
ONE_TEXT = compile_patterns([COLUMNS[1]], ",")


def read_all(
    path: Path, block_bytes: int, patterns: RecordPatterns = PATTERNS
) -> list[Block]:
    with closing(TextFile(path)) as file:
        reader = BlockReader(file, [COLUMNS[0]], block_bytes)
        reader.patterns = patterns
        return list(_read(reader, file, path))


def _read(reader: BlockReader, file: TextFile, path: Path) -> Iterator[Block]:
    blocks = []
    while (block := reader.next_block()) is not None:
        blocks.append(block)
    assert file.bytes == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for block in blocks:
        again = records_of(reader, block)
        assert {*again} >= {*block.irregular}
    yield from blocks


def records_of(reader: BlockReader, block: Block) -> list[CsvRecord]:
    records = reader.records_of(block)
    return [reader.csv_record(line, record) for line, record in records]


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
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
    writer.writerows([("id", "name"), *records])
    content = text.getvalue() if last_newline else text.getvalue()[:-1]
    path = write(tmp_path, content)
    file = TextFile(path)
    reader = BlockReader(file, COLUMNS, block_bytes)
    lines = content.split("\n")
    found: list[list[str]] = []
    while (block := reader.next_block()) is not None:
        taken = len(list(csv.reader(io.StringIO(block.regular.decode(), newline=""))))
        again = records_of(reader, block)
        assert taken + len(block.irregular) == len(again)
        for needles in ([b"a"], [b";", b"1"], [b"\n\n", b'""']):
            containing = reader.records_containing(block, needles)
            assert list(containing) == [
                (line, record)
                for line, record in reader.records_of(block)
                if any(needle in record for needle in needles)
            ]
        for record in again:
            assert lines[record.line - 1] == record.text.split("\n")[0]
            found += csv.reader(io.StringIO(record.text, newline=""))
    file.close()
    assert found == [[str(number), name] for number, name in records]


def test_regular_and_irregular_records(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '\ufeff\n\nid,name\r\n1,a\n\n2,"b\n\nc"\n 3 ,\t"d"\t\nx,e\n \t\n'
        '4,5" f\n5,g,h\n0x6,i\n,j\n7,"k"l\n"8",\'m\r\n9,\n10, n',
    )
    (block,) = read_all(path, 1 << 20)
    assert block.regular.decode().split("\n") == [
        *("1,a", '2,"b', "", 'c"', ' 3 ,\t"d"\t', '"8",\'m\r', "9,", "10, n", "")
    ]
    assert block.irregular == (
        *(CsvRecord(10, "x,e"), CsvRecord(12, '4,5" f'), CsvRecord(13, "5,g,h")),
        *(CsvRecord(14, "0x6,i"), CsvRecord(15, ",j"), CsvRecord(16, '7,"k"l')),
    )


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("1,2;3,4\n2,,\n", 2),
        ("1,\t2;3,\t4.5\n-2,\t7;,\t-1.5\n", 2),
        ("1,2,3\n" * 3, 3),
        ("1,2;3,4\r\n", 1),
        ("1,2.3,4\n", None),
        ("1,2:3,4\n", None),
        ("1,2 ;3,4\n", None),
        ("0x1,2,4\n", None),
        ("1_1,2,4\n", None),
        ("1,2,4\n\n", None),
        ("1,2,4\n1,2\n", None),
        ("1,2,4.5.6\n", None),
        ("1,2,1e5\n", None),
        ('1,"2",4\n', None),
    ],
)
def test_counts_regular_lines_of_numbers(lines: str, count: int | None) -> None:
    assert NUMBERS.count_regular(lines.encode()) == count


@settings(max_examples=500)
@given(
    patterns=st.sampled_from([PATTERNS, NUMBERS, WITHOUT_SKELETON, TEXTS, ONE_TEXT]),
    lines=st.lists(st.text('1ab,;.\t \r"\\', max_size=9), max_size=5)
    | st.lists(
        st.sampled_from(["1,a", "2,\tb", "3,", "4", "5,c,d", ",e", "6,f\r", "7;8,9,1"])
    ),
)
def test_counts_lines_exactly_if_all_are_regular(
    patterns: RecordPatterns, lines: list[str]
) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    count = patterns.count_regular(data)
    if count is None:
        assert b'"' in data or not patterns.regular.fullmatch(data)
    else:
        assert count == len(lines)
        assert patterns.regular.fullmatch(data)


PIECES = st.sampled_from(
    [*"0123456789", *";;,,,.-+\t \r\n\n", *("a", '"', "9" * 4, "1" * 18, "8" * 12)]
)
VALUES = st.sampled_from(
    [
        "",
        "1",
        "\t-23",
        "+4 ",
        "5;6",
        ";",
        "\t7;8;",
        "1\t3",
        "9;;9",
        "1.5",
        ".5",
        "1" * 19,
    ]
)


@settings(max_examples=1000)
@given(
    columns=st.lists(st.sampled_from([KEY, SMALL, LIST, SIZE]), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t"),
    lines=st.lists(PIECES, max_size=40).map("".join)
    | st.lists(st.lists(VALUES, min_size=1, max_size=4).map(",".join), max_size=4).map(
        "\n".join
    ),
)
def test_a_skeleton_accepts_nothing_but_regular_records(
    columns: list[Column], delimiter: str, lines: str
) -> None:
    patterns = compile_patterns(columns, delimiter)
    data = lines.replace(",", delimiter).encode() + b"\n"
    count = patterns.count_regular(data)
    if count is None:
        assert b'"' in data or not patterns.regular.fullmatch(data)
    else:
        assert patterns.regular.fullmatch(data)
        records = [each[0] for each in patterns.record.finditer(data)]
        assert count == len(records) == data.count(b"\n")
        assert not any(map(patterns.blank.fullmatch, records))


@pytest.mark.parametrize("value", ["1\t3", "1 3", ";1", "1;;2", "1" * 19, "1; ", "-1"])
def test_a_list_with_anything_but_numbers_is_irregular(value: str) -> None:
    patterns = compile_patterns([KEY, LIST], ",")
    assert patterns.count_regular(b"1,\t2;3;\n1,\n1,4\r\n") == 3
    for each in (value, f'"{value}"'):
        line = f"1,{each}\n".encode()
        assert patterns.count_regular(line) is None
        assert not patterns.regular.fullmatch(line)


def test_finds_the_records_that_contain_a_value(tmp_path: Path) -> None:
    content = "id,name\n1,ab\n\n2,b\n3,xab\n"
    for quoted, found in (
        ("", [(2, b"1,ab\n"), (5, b"3,xab\n")]),
        ('4,"a\nb"\n5,ab', [(2, b"1,ab\n"), (5, b"3,xab\n"), (8, b"5,ab\n")]),
    ):
        with closing(TextFile(write(tmp_path, content + quoted))) as file:
            reader = BlockReader(file, COLUMNS[:1])
            block = reader.next_block()
            assert block is not None
            for needles in ([b"ab"], [b"ab", b"1,", b"zz", b"x", b"2,b\n3"]):
                records = reader.records_containing(block, needles)
                assert list(records) == found
            assert not list(reader.records_containing(block, []))


@pytest.mark.parametrize("patterns", [PATTERNS, NUMBERS, TEXTS, ONE_TEXT])
def test_loops_that_give_nothing_back_are_atomic(patterns: RecordPatterns) -> None:
    """Debian 12 has Python 3.11.2, where others keep what a failed turn has taken."""
    loops = (patterns.regular, patterns.unquoted, patterns.record, patterns.blank)
    for pattern in (*loops, BLANK_LINES):
        groups = len(re.findall(rb"\)[*+?]\+", pattern.pattern))
        assert pattern.pattern.count(b"(?:(?>") == groups


@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 20, 1 << 22])
def test_a_record_may_have_a_mebibyte_and_no_more(
    tmp_path: Path, block_bytes: int
) -> None:
    most = MAX_RECORD_BYTES
    fits = "1," + "a" * (most - 2)
    quoted = '2,"' + "b\n" * (most // 2 - 2) + '"'
    content = f"id,name\n{fits}\n{quoted}\n4,e\n"
    blocks = read_all(write(tmp_path, content), block_bytes)
    regular = b"".join(block.regular for block in blocks).decode()
    assert regular == f"{fits}\n{quoted}\n4,e\n"
    path = write(tmp_path, f"id,name\n1,a\n2,{'b' * most}\n3,c\n")
    with pytest.raises(DataFault, match="^file.csv, line 3: a record of over 1 MiB"):
        read_all(path, block_bytes)
    path = write(tmp_path, 'id,name\n1,a\n2,"' + "b\n" * most + '"\n3,c\n')
    with pytest.raises(DataFault, match="line 3: a (quote opens|record of over 1 MiB)"):
        read_all(path, block_bytes)


@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_lines_without_a_value_are_no_records(tmp_path: Path, block_bytes: int) -> None:
    path = write(
        tmp_path,
        ",,\n;;\n\nid,name\n"
        '1,a\n,\n \t, \r\n"",""\n,,,\n\x1a\n\ufeff\n2,""""\n\r\r\n3,b\n\x1a',
    )
    for patterns in (PATTERNS, TEXTS, compile_patterns([None, None], ",")):
        blocks = read_all(path, block_bytes, patterns)
        regular = b"".join(block.regular for block in blocks).decode()
        records = [
            *regular.splitlines(),
            *(each.text for b in blocks for each in b.irregular),
        ]
        assert sorted(records) == ["1,a", '2,""""', "3,b"]


def test_marks_at_the_edges_of_text_take_the_slow_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "id,name\r\r\n1,a\r\r\n\r2,b\n\ufeff3,c\n4,\ufeffd\n"
        '5,"e\r"\n6,"f\x1a"\n7,"g\r\n"\n8,\uff48\n9,"\uff49"\n10,j\x1a',
    )
    (block,) = read_all(path, 1 << 20)
    assert block.regular.decode() == '7,"g\r\n"\n8,\uff48\n9,"\uff49"\n'
    assert [record.text for record in block.irregular] == [
        *("1,a", "2,b", "3,c", "4,\ufeffd", '5,"e\r"', '6,"f\x1a"', "10,j")
    ]
    data = path.read_bytes().split(b"\n", 1)[1]
    assert PATTERNS.count_regular(data.replace(b'"', b"")) is None


def test_memory_holds_few_irregular_records_at_a_time(tmp_path: Path) -> None:
    records = MAX_RECORDS_AT_ONCE * 5 // 2
    blocks = read_all(write(tmp_path, "id,name\n" + "x,\n" * records), 1 << 16)
    assert sum(len(block.irregular) for block in blocks) == records
    lines = [block.irregular[0].line for block in blocks]
    blocks = read_all(write(tmp_path, "id,name\n" + "x,\n" * records), 1 << 22)
    assert [len(block.irregular) for block in blocks] == [
        *(MAX_RECORDS_AT_ONCE, MAX_RECORDS_AT_ONCE, MAX_RECORDS_AT_ONCE // 2)
    ]
    assert lines == sorted(lines)
    assert blocks[-1].irregular[-1].line == records + 1


@pytest.mark.parametrize("block_bytes", [7, 1 << 16])
def test_a_quote_that_never_closes_is_named_by_its_line(
    tmp_path: Path, block_bytes: int
) -> None:
    start = 'id,name\n1,"a\n"\n'
    path = write(tmp_path, start + '2,"b\n3,c\n')
    with pytest.raises(DataFault, match="^file.csv, line 4: a quote opens"):
        read_all(path, block_bytes)
    path = write(tmp_path, start + '"2\n","b' + "3,c\n" * MAX_RECORD_BYTES)
    with pytest.raises(DataFault, match="^file.csv, line 5: a quote opens"):
        read_all(path, block_bytes << 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: its first line names the columns"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf \n\t\n", "is empty"),
        (b",,,\n" * 50 + b"\x1a", "is empty"),
        (b"\n\xff,name\n1,a\n", "line 2: is not UTF-8"),
        (b"id,name\n1,a\nx,b\xff\n", "line 3: is not UTF-8"),
        (b"id,name\n1,a\n\n" + "2,ü\nx,ü\n".encode("latin-1"), "line 5: is not UTF-8"),
        (b"id,name\n1,a\nx,b\0\n", "line 3: holds a NUL byte"),
        (b"id\0,name\n1,a\n", "line 1: holds a NUL byte"),
        (
            "id,name\n1,a\n".encode("utf-16-le"),
            "is UTF-16 or UTF-32: save the data as CSV in UTF",
        ),
        ("id,name\n1,a\n".encode("utf-16-be"), "is UTF-16"),
        ("id,name\n1,a\n".encode("utf-16"), "is UTF-16"),
        ("id,name\n1,a\n".encode("utf-32-le"), "is UTF-16 or UTF-32"),
        ("id,name\n1,a\n".encode("utf-32"), "is UTF-16 or UTF-32"),
        (gzip.compress(b"id,name\n", mtime=0), r"is compressed \(gzip\): unpack it"),
        (bz2.compress(b"id,name\n"), r"is compressed \(bzip2\)"),
        (lzma.compress(b"id,name\n"), r"is compressed \(xz\)"),
        (b"PK\x03\x04\x14\0\6\0", "is a ZIP archive or an Excel workbook"),
    ],
)
def test_refuses_what_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataFault, match=f"^file.csv(: |, ){message}"):
        read_all(write(tmp_path, content), 1 << 20)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    with pytest.raises(DataFault, match="file.csv: missing in .*: put it there"):
        TextFile(path)
    os.mkfifo(path)
    with pytest.raises(DataFault, match="file.csv: is no ordinary file"):
        TextFile(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataFault, match="file.csv: is a folder"):
        TextFile(path)


@pytest.mark.parametrize("change", ["more", "less", "other"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, "id,name\n" + "1,a\n" * 1000)
    os.utime(path, ns=(0, 0))
    file_read = TextFile(path)
    reader = BlockReader(file_read, COLUMNS, 64)
    assert reader.next_block() is not None
    with path.open("r+b") as file:
        if change == "less":
            file.truncate(100)
        else:
            file.seek(0, os.SEEK_END if change == "more" else os.SEEK_SET)
            file.write(b"id,n")
    with pytest.raises(DataFault, match="file.csv: was changed while it was read"):
        while reader.next_block() is not None:
            pass
    file_read.close()
