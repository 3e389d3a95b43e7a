"""A CSV file cut into blocks of whole records, each with the line where it starts.

Cuts bytes and counts lines; knows no table and parses no value. Separates regular
records, which COPY loads unseen, from irregular ones: patterns.py says which is which.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from etl.csvfiles.fields import split_record
from etl.csvfiles.headers import HEAD_BYTES, find_header
from etl.csvfiles.patterns import (
    Column,
    RecordPatterns,
    compile_patterns,
    has_marks,
    match_end,
)
from etl.csvfiles.textfile import TextFile, decode
from etl.errors import DataFault, ServiceFault

#: Bytes of a block. Larger ones load faster, by a tenth from 1 MB to 4 MB, and memory
#: holds one a connection and two: with many connections they are smaller.
MAX_BLOCK_BYTES, MIN_BLOCK_BYTES = 4 << 20, 1 << 20
BYTES_OF_ALL_BLOCKS = 16 << 20

#: Bytes of the longest record that is accepted; in a longer one a quote was likely left
#: open.
MAX_RECORD_BYTES = 1 << 20

#: What is left of line ends, and of concatenated files, at a record's edges.
EDGES = "\r\n\x1a\ufeff"

#: A column without a name and values.
NOTHING = Column("", is_required=False, is_text=False, pattern="", skeleton="")

#: Records as text in a list: each takes 200 bytes of memory beside its text.
MAX_RECORDS_AT_ONCE = 20_000


def block_bytes(workers: int) -> int:
    """The size of a block where so many connections load at once, in bytes."""
    return max(MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, BYTES_OF_ALL_BLOCKS // workers))


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record without line end and marks; ``line`` is where it starts, from 1."""

    line: int
    text: str


@dataclass(frozen=True)
class Block:
    """Whole records that follow each other in a file.

    It has ``length`` bytes from ``offset`` on, and so many ``lines`` from ``line`` on.
    ``regular`` holds its regular records, ready for COPY, and ``irregular`` the others.
    """

    offset: int
    length: int
    line: int
    lines: int
    regular: bytes = b""
    irregular: tuple[CsvRecord, ...] = ()


class BlockReader:
    """Reads one file from start to end, block by block; keeps one block at a time.

    ``offset`` and ``line`` are where the next block begins, the latter counted from 1.
    """

    def __init__(
        self,
        file: TextFile,
        columns: Sequence[Column],
        block_bytes: int = MAX_BLOCK_BYTES,
    ) -> None:
        """Read the header; ``columns`` are those of the table.

        Raises DataFault where the header is wrong: see ``find_header``.
        """
        self._file = file
        self._block_bytes = block_bytes
        self._known = {column.name: column for column in columns}
        head = file.read_at(0, HEAD_BYTES)
        self.header, self.offset = find_header(file.name, head, list(self._known))
        self.line = 1 + file.read(self.offset).count(b"\n")
        self._rest = b""

    @cached_property
    def patterns(self) -> RecordPatterns:
        """What the records look like. Raises ServiceFault where a pattern of the
        pipeline is no regular expression.
        """
        columns = [
            NOTHING if is_blank else self._known.get(name)
            for name, is_blank in zip(
                self.header.columns, self.header.is_blank, strict=True
            )
        ]
        try:
            return compile_patterns(columns, self.header.delimiter)
        except re.error as error:
            raise ServiceFault(
                f"staging.{self._file.name.removesuffix('.csv')}: a pattern is no "
                f"regular expression: {error}"
            ) from None

    def skip_to(self, offset: int, line: int) -> None:
        """Continue at a record that begins there, in a file that was hashed."""
        self._file.skip_to(offset)
        self.offset, self.line = offset, line

    def next_block(self) -> Block | None:
        """The next records, or None at the end of the file.

        Raises DataFault where a quote never closes, the file is not UTF-8, or was
        changed while it was read.
        """
        if len(self._rest) >= self._block_bytes and (block := self._cut()):
            return block
        while more := self._file.read(self._block_bytes):
            self._rest += more
            if self._file.bytes >= self._file.size:
                self._rest = _with_line_end(self._rest)
            if block := self._cut():
                return block
        if not self._rest:
            return None
        block = self._cut()
        if block is None:
            raise self._no_record(self._rest)
        return block

    def records_of(self, block: Block) -> Iterator[tuple[int, bytes]]:
        """The records of a block, read again, each with its line and its line end.

        Leaves out blank lines. Raises DataFault.
        """
        yield from self._records(self._read_again(block), block.line)

    def records_containing(
        self, block: Block, needles: Collection[bytes]
    ) -> Iterator[tuple[int, bytes]]:
        """The records of a block that contain a needle; these have no quotes."""
        data = self._read_again(block)
        needles = [needle for needle in needles if needle in data]
        if b'"' in data and needles:
            for line, record in self._records(data, block.line):
                if any(needle in record for needle in needles):
                    yield line, record
            return
        line, position = block.line, 0
        in_one_line = [needle for needle in needles if b"\n" not in needle]
        starts = {start for each in in_one_line for start in _lines_with(data, each)}
        for start in sorted(starts):
            line += data.count(b"\n", position, start)
            position = start
            record = data[start : data.index(b"\n", start) + 1]
            if not self.patterns.blank.fullmatch(record):
                yield line, record

    def csv_record(self, line: int, record: bytes) -> CsvRecord:
        """The text of a record, without line end and marks. Raises DataFault."""
        return CsvRecord(line, decode(self._file.name, record, line).strip(EDGES))

    def _read_again(self, block: Block) -> bytes:
        return _with_line_end(self._file.read_at(block.offset, block.length))

    def _records(self, data: bytes, line: int) -> Iterator[tuple[int, bytes]]:
        """The records of whole lines from ``line`` on, without blank ones."""
        is_blank = self.patterns.blank.fullmatch
        if b'"' not in data:
            for number, record in enumerate(io.BytesIO(data), line):
                if record[:1].isalnum() or not is_blank(record):  # the first is faster
                    yield number, record
            return
        for found in self.patterns.record.finditer(data):
            if not is_blank(found[0]):
                yield line, found[0]
            line += found[0].count(b"\n")

    def _cut(self) -> Block | None:
        """Take the whole records from the start of ``_rest``; the rest stays there.

        None where there are none yet.
        """
        end = self._rest.rfind(b"\n") + 1
        lines = self._rest[:end]
        if end and _are_short(lines):
            count = self.patterns.count_regular(lines)
            if count is not None:
                return self._take(end, count, lines)
        data, patterns = self._rest, self.patterns
        regular: list[bytes] = []
        irregular: list[CsvRecord] = []
        # Marks at the edges of values are no part of them: the slow path removes them.
        are_marked = has_marks(data)
        position, line = 0, self.line
        while position < len(data) and len(irregular) < MAX_RECORDS_AT_ONCE:
            # What does not match up to here is too long, or not whole yet.
            reach = min(position + MAX_RECORD_BYTES + 1, len(data))
            whole = match_end(patterns.record, data, position, reach)
            last = whole if are_marked else reach
            end = match_end(patterns.regular, data, position, last)
            if end > position and not (are_marked and has_marks(data[position:end])):
                regular.append(data[position:end])
            elif (end := match_end(patterns.blank, data, position, reach)) > position:
                pass
            elif (end := whole) > position:
                irregular.append(self.csv_record(line, data[position:end]))
            elif position == 0 and len(data) > MAX_RECORD_BYTES:
                raise self._no_record(data)
            else:
                break
            line += data.count(b"\n", position, end)
            position = end
        if position == 0:
            return None
        text = b"".join(regular)
        block = self._take(position, line - self.line, text)
        return replace(block, irregular=tuple(irregular))

    def _take(self, length: int, lines: int, regular: bytes) -> Block:
        """Take a block with these regular records from the start of ``_rest``."""
        if b"\r" in regular and b'"' not in regular:
            regular = regular.replace(b"\r\n", b"\n")  # COPY refuses a mixture
        block = Block(self.offset, length, self.line, lines, regular)
        self._rest = self._rest[length:]
        self.offset += length
        self.line += lines
        return block

    def _no_record(self, data: bytes) -> DataFault:
        """Why ``data``, to the end of the file or longer than a record, is none."""
        fields = split_record(_with_line_end(data), 0, self.header.delimiter)
        if fields.end is not None:
            return DataFault(
                f"{self._file.name}, line {self.line}: a record of over 1 MiB, which "
                "is the most: is a quote left open?"
            )
        line = self.line + data.count(b"\n", 0, fields.bad_quote)
        bound = " within 1 MiB" if len(data) > MAX_RECORD_BYTES else ""
        return DataFault(
            f"{self._file.name}, line {line}: a quote opens that never closes{bound}: "
            "close it, or put the whole value in quotes and double this one"
        )


def _lines_with(data: bytes, needle: bytes) -> Iterator[int]:
    """Where the lines begin that contain ``needle``."""
    position = data.find(needle)
    while 0 <= position < len(data):
        yield data.rfind(b"\n", 0, position) + 1
        position = data.find(needle, data.index(b"\n", position) + 1)


def _with_line_end(data: bytes) -> bytes:
    return data if data.endswith(b"\n") else data + b"\n"


def _are_short(lines: bytes) -> bool:
    """Whether surely no line is longer than a record may be."""
    step = MAX_RECORD_BYTES // 2
    return all(
        lines.find(b"\n", start, start + step) >= 0
        for start in range(0, len(lines) - step + 1, step)
    )
