"""Blocks: cut between records, whatever the size; plain records told from odd ones."""

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
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.csvfiles.blocks import (
    LONGEST_RECORD,
    MOST_RECORDS_AT_ONCE,
    Block,
    BlockReader,
    Record,
)
from etl.csvfiles.fields import BLANK_LINES
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
        reader = BlockReader(file, ["id"], block_bytes)
        return list(_read(reader, file, path, forms))


def _read(
    reader: BlockReader, file: TextFile, path: Path, forms: Forms
) -> Iterator[Block]:
    blocks = []
    while (block := reader.next_block(forms)) is not None:
        blocks.append(block)
    assert file.bytes == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for block in blocks:
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
    reader = BlockReader(file, ["id", "name"], block_bytes)
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
    for form in (*loops, forms.blank, BLANK_LINES):
        groups = len(re.findall(rb"\)[*+?]\+", form.pattern))
        assert form.pattern.count(b"(?:(?>") == groups


@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 20, 1 << 22])
def test_a_record_may_have_a_mebibyte_and_no_more(
    tmp_path: Path, block_bytes: int
) -> None:
    most = LONGEST_RECORD
    fits = "1," + "a" * (most - 2)
    quoted = '2,"' + "b\n" * (most // 2 - 2) + '"'
    content = f"id,name\n{fits}\n{quoted}\n4,e\n"
    blocks = read_all(write(tmp_path, content), block_bytes)
    plain = b"".join(block.plain for block in blocks).decode()
    assert plain == f"{fits}\n{quoted}\n4,e\n"
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
    for forms in (FORMS, TEXTS, forms_of([None, None], ",")):
        blocks = read_all(path, block_bytes, forms)
        plain = b"".join(block.plain for block in blocks).decode()
        records = [*plain.splitlines(), *(each.text for b in blocks for each in b.odd)]
        assert sorted(records) == ["1,a", '2,""""', "3,b"]
        assert sum(block.plain_lines for block in blocks) == plain.count("\n")


def test_marks_at_the_edges_of_text_take_the_slow_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "id,name\r\r\n1,a\r\r\n\r2,b\n\ufeff3,c\n4,\ufeffd\n"
        '5,"e\r"\n6,"f\x1a"\n7,"g\r\n"\n8,\uff48\n9,"\uff49"\n10,j\x1a',
    )
    (block,) = read_all(path, 1 << 20)
    assert block.plain.decode() == '7,"g\r\n"\n8,\uff48\n9,"\uff49"\n'
    assert [record.text for record in block.odd] == [
        *("1,a", "2,b", "3,c", "4,\ufeffd", '5,"e\r"', '6,"f\x1a"', "10,j")
    ]
    data = path.read_bytes().split(b"\n", 1)[1]
    assert FORMS.count_plain(data.replace(b'"', b"")) is None


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
        (b",,,\n" * 50 + b"\x1a", "is empty"),
        (b"\n\xff,name\n1,a\n", "line 2: is not UTF-8"),
        (b"id,name\n1,a\nx,b\xff\n", "line 3: is not UTF-8"),
        (b"id,name\n1,a\n\n" + "2,ü\nx,ü\n".encode("latin-1"), "line 5: is not UTF-8"),
        (b"id,name\n1,a\nx,b\0\n", "line 3: holds a NUL byte"),
        (b"id\0,name\n1,a\n", "line 1: holds a NUL byte"),
        (
            "id,name\n1,a\n".encode("utf-16-le"),
            "is UTF-16: save the data as CSV in UTF",
        ),
        ("id,name\n1,a\n".encode("utf-16-be"), "is UTF-16"),
        ("id,name\n1,a\n".encode("utf-16"), "is UTF-16"),
        ("id,name\n1,a\n".encode("utf-32-le"), "is UTF-32"),
        ("id,name\n1,a\n".encode("utf-32"), "is UTF-32"),
        (gzip.compress(b"id,name\n", mtime=0), r"is compressed \(gzip\): unpack it"),
        (bz2.compress(b"id,name\n"), r"is compressed \(bzip2\)"),
        (lzma.compress(b"id,name\n"), r"is compressed \(xz\)"),
        (b"PK\x03\x04\x14\0\6\0", "is a ZIP archive or an Excel workbook"),
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
    reader = BlockReader(file_read, ["id", "name"], 64)
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
