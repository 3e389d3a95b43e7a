"""Blocks: cut between records, whatever the size; plain records told from odd ones."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.csvfiles.blocks import (
    BLANK_LINES,
    HEADER_LINE,
    LONGEST_RECORD,
    MOST_RECORDS_AT_ONCE,
    Block,
    BlockReader,
    LongRecord,
    Record,
)
from etl.csvfiles.forms import Column, Forms, forms_of
from etl.csvfiles.textfile import TextFile
from etl.errors import DataFault

COLUMNS = [
    Column("id", True, False, "[+-]?[0-9]{1,18}", "[+-]?"),
    Column("name", False, True),
]
FORMS = forms_of(COLUMNS, ",")

NUMBERS = forms_of(
    [
        COLUMNS[0],
        Column("ids", False, True, "(?:[0-9]{0,18};)*[0-9]{0,18}", "", ";"),
        Column("size", False, False, r"[+-]?[0-9]+(?:\.[0-9]+)?", r"[+-]?\.?"),
    ],
    ",",
)

STRICT_NUMBERS = replace(NUMBERS, frame=None)
TEXTS = forms_of([COLUMNS[1], None, COLUMNS[1]], ",")
ONE_TEXT = forms_of([COLUMNS[1]], ",")


def read_all(path: Path, block_bytes: int, forms: Forms = FORMS) -> list[Block]:
    with closing(TextFile(path)) as file:
        return list(_read(BlockReader(file, block_bytes), file, path, forms))


def _read(
    reader: BlockReader, file: TextFile, path: Path, forms: Forms
) -> Iterator[Block]:
    blocks = []
    while (block := reader.next_block(forms)) is not None:
        blocks.append(block)
    assert file.bytes == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for block in blocks:
        if block.long is None:
            again = {record.text for record in reader.records_of(block, forms)}
            assert again >= {record.text for record in block.odd}
    yield from blocks


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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
    writer.writerows([("id", "name"), *records])
    content = text.getvalue() if last_newline else text.getvalue()[:-1]
    path = write(tmp_path, content)
    file = TextFile(path)
    reader = BlockReader(file, block_bytes)
    lines = content.split("\n")
    found: list[list[str]] = []
    while (block := reader.next_block(FORMS)) is not None:
        taken = len(list(csv.reader(io.StringIO(block.plain.decode(), newline=""))))
        again = list(reader.records_of(block, FORMS))
        assert taken + len(block.odd) == len(again)
        chosen = reader.records_of(block, FORMS, lambda some: islice(some, 1, None, 2))
        assert list(chosen) == again[1::2]
        for record in again:
            assert lines[record.line - 1] == record.text.split("\n")[0]
            found += csv.reader(io.StringIO(record.text, newline=""))
    file.close()
    assert found == [[str(number), name] for number, name in records]


def test_plain_and_odd_records(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '\ufeff\n\nid,name\r\n1,a\n\n2,"b\n\nc"\n 3 ,\t"d"\t\nx,e\n \t\n'
        '4,5" f\n5,g,h\n0x6,i\n,j\n7,"k"l\n"8",\'m\r\n9,\n10, n',
    )
    (block,) = read_all(path, 1 << 20)
    assert block.plain.decode().split("\n") == [
        *("1,a", '2,"b', "", 'c"', ' 3 ,\t"d"\t', '"8",\'m\r', "9,", "10, n", "")
    ]
    assert block.plain_lines == 8
    assert block.odd == (
        *(Record(10, "x,e"), Record(12, '4,5" f'), Record(13, "5,g,h")),
        *(Record(14, "0x6,i"), Record(15, ",j"), Record(16, '7,"k"l')),
    )


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("1,2;3,4\n2,,\n", 2),
        ("1,\t2;3,\t4.5\n-2,\t;\t,\t-1.5\n", 2),
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
def test_lines_that_are_seen_to_be_plain_at_once(lines: str, count: int | None) -> None:
    assert NUMBERS.count_plain(lines.encode()) == count


@settings(max_examples=500, deadline=None)
@given(
    forms=st.sampled_from([FORMS, STRICT_NUMBERS, TEXTS, ONE_TEXT]),
    lines=st.lists(st.text('1ab,;.\t \r"\\', max_size=9), max_size=5)
    | st.lists(
        st.sampled_from(["1,a", "2,\tb", "3,", "4", "5,c,d", ",e", "6,f\r", "7;8,9,1"])
    ),
)
def test_what_is_seen_at_once_is_what_each_record_says(
    forms: Forms, lines: list[str]
) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    count = forms.count_plain(data)
    if count is None:
        assert b'"' in data or not forms.plain.fullmatch(data)
    else:
        assert count == len(lines)
        assert forms.plain.fullmatch(data)


@pytest.mark.parametrize("forms", [FORMS, NUMBERS, TEXTS, ONE_TEXT])
def test_loops_that_give_nothing_back_are_atomic(forms: Forms) -> None:
    """Debian 12 has Python 3.11.2, where others keep what a failed turn has taken."""
    loops = (forms.plain, forms.unquoted, forms.record, forms.fields, forms.open_quote)
    for form in (*loops, HEADER_LINE, BLANK_LINES):
        groups = len(re.findall(rb"\)[*+?]\+", form.pattern))
        assert form.pattern.count(b"(?:(?>") == groups


def test_a_long_record_is_told_and_passed_over(tmp_path: Path) -> None:
    most = LONGEST_RECORD
    fits = "1," + "a" * (most - 2)
    long = "2," + "b" * (most - 1)
    quoted = '3,"c\n""' + "d,\n" * most + '"'
    content = f"id,name\n{fits}\n{long}\n{quoted}\n4,e\n"
    for block_bytes in (1 << 16, 1 << 20, 1 << 22):
        blocks = read_all(write(tmp_path, content), block_bytes)
        assert b"".join(block.plain for block in blocks).decode() == f"{fits}\n4,e\n"
        assert [block.long for block in blocks if block.long] == [
            LongRecord(3, len(long) + 1, long[:200]),
            LongRecord(4, len(quoted) + 1, quoted[:200]),
        ]
        assert blocks[-1].line == 4 + quoted.count("\n") + 1


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize(
    "record",
    [
        "," * 900,
        '"' + "q" * 200 + '"' + "x" * 100 + "y" * 200 + ",z",
        "a" * 301,
        "a,  " + '"' + 'b"",\n' * 60 + '"',
        "1," + "é" * 151,
        '"' + '""' * 150 + '",b',
    ],
)
def test_a_long_record_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str, end: str
) -> None:
    monkeypatch.setattr("etl.csvfiles.blocks.LONGEST_RECORD", 300)
    path = write(tmp_path, f"id,name\n1,a\n{record}{end}")
    for block_bytes in range(1, 420):
        blocks = read_all(path, block_bytes)
        assert b"".join(block.plain for block in blocks) == b"1,a\n"
        (long,) = [block.long for block in blocks if block.long]
        head = record.encode()[:200].decode(errors="ignore")
        assert (long.line, long.head) == (3, head)
        assert long.length == len(record.encode()) + 1


def test_blank_lines_are_nothing_however_long(tmp_path: Path) -> None:
    path = write(tmp_path, "\n" * 9 + "id,name\n" + " \t" * (1 << 20) + "\r\n1,a\n")
    plain = [block for block in read_all(path, 1 << 18) if block.plain or block.long]
    assert [(block.plain, block.line) for block in plain] == [(b"1,a\n", 12)]


def test_memory_holds_few_odd_records_at_a_time(tmp_path: Path) -> None:
    records = MOST_RECORDS_AT_ONCE * 5 // 2
    blocks = read_all(write(tmp_path, "id,name\n" + "x,\n" * records), 1 << 16)
    assert sum(len(block.odd) for block in blocks) == records
    lines = [block.odd[0].line for block in blocks]
    blocks = read_all(write(tmp_path, "id,name\n" + "x,\n" * records), 1 << 22)
    assert [len(block.odd) for block in blocks] == [
        *(MOST_RECORDS_AT_ONCE, MOST_RECORDS_AT_ONCE, MOST_RECORDS_AT_ONCE // 2)
    ]
    assert lines == sorted(lines)
    assert blocks[-1].odd[-1].line == records + 1


@pytest.mark.parametrize("block_bytes", [7, 1 << 16])
def test_a_quote_that_never_closes_is_named_by_its_line(
    tmp_path: Path, block_bytes: int
) -> None:
    start = 'id,name\n1,"a\n"\n'
    path = write(tmp_path, start + '2,"b\n3,c\n')
    with pytest.raises(DataFault, match="^file.csv, line 4: a quote opens"):
        read_all(path, block_bytes)
    path = write(tmp_path, start + '"2\n","b' + "3,c\n" * LONGEST_RECORD)
    with pytest.raises(DataFault, match="^file.csv, line 5: a quote opens"):
        read_all(path, block_bytes << 8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: its first line names the columns"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf \n\t\n", "is empty"),
        (b"\n\xff,name\n1,a\n", "line 2: is not UTF-8"),
        (b"id,name\n1,a\nx,b\xff\n", "line 3: is not UTF-8"),
        (b"id,name\n1,a\n\n" + "2,ü\nx,ü\n".encode("latin-1"), "line 5: is not UTF-8"),
        (b"id,name\n1,a\nx,b\0\n", "line 3: holds a NUL byte"),
        ("id,name\n1,a\n".encode("utf-16-le"), "line 1: holds a NUL byte"),
        ("id,name\n1,a\n".encode("utf-16"), "is UTF-16: save the file as UTF-8"),
        (b"id,name\n1,a\n\n2,b\n3," + b"c" * (2 << 20) + b"\0", "line 5: holds a NUL"),
        (b"id,name\n1,a\n2," + b"\xc3\xa9" * (2 << 20) + b"\xc3", "line 3: is not UTF"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataFault, match=f"^file.csv(: |, ){said}"):
        read_all(write(tmp_path, content), 1 << 20)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
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
    reader = BlockReader(file_read, 64)
    assert reader.next_block(FORMS) is not None
    with path.open("r+b") as file:
        if change == "less":
            file.truncate(100)
        else:
            file.seek(0, os.SEEK_END if change == "more" else os.SEEK_SET)
            file.write(b"id,n")
    with pytest.raises(DataFault, match="file.csv: was changed while it was read"):
        while reader.next_block(FORMS) is not None:
            pass
    file_read.close()
