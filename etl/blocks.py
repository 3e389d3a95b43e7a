"""A CSV file cut into blocks of whole records, and the header line above them.

Cuts bytes and counts lines; knows no table and parses no value. A newline ends a record
exactly where the number of quotes before it is even, so counting is enough to cut.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.errors import DataFault

#: Bytes of a block. Larger ones load faster, by a tenth from 1 MB to 4 MB, and memory
#: holds two or three a stream: with many streams they are smaller.
LARGEST_BLOCK, SMALLEST_BLOCK = 4 << 20, 1 << 20
BYTES_OF_ALL_BLOCKS = 16 << 20

#: Bytes of the longest record that is taken; beyond it a quote was likely left open.
LONGEST_RECORD = 1 << 20

DELIMITERS = (",", "\t", ";", "|")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

BLANK_LINE = re.compile(rb"^[ \t\r]*(?:\n|\Z)", re.MULTILINE)

#: What stands in quotes; a doubled quote makes two of them, with nothing in between.
QUOTED = re.compile(rb'"[^"]*"')
QUOTED_OR_CRLF = re.compile(rb'"[^"]*"|\r\n')


def block_bytes(streams: int) -> int:
    """The size of a block where so many streams load at once, in bytes."""
    return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, BYTES_OF_ALL_BLOCKS // streams))


@dataclass(frozen=True)
class Header:
    """Columns in the file's order, and the delimiter under which they were found."""

    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True)
class Block:
    """Whole records as they stand in the file; ``line`` is the first one's, from 1."""

    data: bytes
    line: int

    def tidied(self) -> bytes:
        """The records alone, with line ends of one kind: what COPY needs.

        A blank line is no record, and what stands in quotes stays as it is.
        """
        data = self.data
        if b"\r\n" in data:
            data = QUOTED_OR_CRLF.sub(
                lambda found: b"\n" if found[0] == b"\r\n" else found[0], data
            )
        kept: list[bytes] = []
        position = quotes = 0
        for blank in BLANK_LINE.finditer(data):
            quotes += data.count(b'"', position, blank.start())
            end = blank.start() if quotes % 2 == 0 else blank.end()
            kept.append(data[position:end])
            position = blank.end()
        kept.append(data[position:])
        return b"".join(kept)

    def file_line(self, number: int) -> int:
        """The line in the file of line ``number`` among those that are not blank."""
        quotes = seen = 0
        for offset, line in enumerate(self.data.split(b"\n")):
            if quotes % 2 == 1 or line.strip(b" \t\r"):
                seen += 1
            if seen == number:
                return self.line + offset
            quotes += line.count(b'"')
        return self.line


class BlockReader:
    """Reads one file from start to end, block by block; keeps one block at a time.

    ``bytes`` and ``sha256`` tell of what was read so far.
    """

    def __init__(self, path: Path, block_bytes: int = LARGEST_BLOCK) -> None:
        """Open the file and read up to its header line.

        Raises DataFault where the file cannot be read or has no header line.
        """
        self.name = path.name
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._block_bytes = block_bytes
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise DataFault(f"{self.name}: missing in {path.parent}") from None
        except OSError as error:
            raise DataFault(f"{self.name}: cannot be read: {error.strerror}") from None
        self._line = 1
        self._rest = b""
        try:
            self.header_line = self._read_header_line()
        except BaseException:
            self._file.close()
            raise

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far, in hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def next_block(self) -> Block | None:
        """The next records, or None at the end of the file.

        Raises DataFault where a record is longer than LONGEST_RECORD.
        """
        data, self._rest = self._rest, b""
        while more := self._read():
            data += more
            end = _end_of_records(data)
            if end:
                self._rest = data[end:]
                return self._block(data[:end])
            if len(data) > LONGEST_RECORD:
                raise DataFault(
                    f"{self.name}, line {self._line}: a record longer than "
                    f"{LONGEST_RECORD >> 20} MiB: is a quote left open?"
                )
        return self._block(data) if data else None

    def _block(self, data: bytes) -> Block:
        block = Block(data, self._line)
        self._line += data.count(b"\n")
        return block

    def _read(self) -> bytes:
        try:
            data = self._file.read(self._block_bytes)
        except OSError as error:
            raise DataFault(f"{self.name}: cannot be read: {error.strerror}") from None
        self.bytes += len(data)
        self._digest.update(data)
        return data

    def _read_header_line(self) -> str:
        """The first line that is not blank; what follows it waits in ``_rest``."""
        data = b""
        while more := self._read():
            data = (data + more).removeprefix(BYTE_ORDER_MARK)
            lines = data.lstrip(b" \t\r\n")
            if b"\n" in lines or len(lines) > LONGEST_RECORD:
                break
        lines = data.lstrip(b" \t\r\n")
        header, _, self._rest = lines.partition(b"\n")
        if not header:
            raise DataFault(f"{self.name}: is empty: its first line names the columns")
        above = data[: len(data) - len(lines)].count(b"\n")
        self._line = above + 2
        try:
            return header.decode("utf-8")
        except UnicodeDecodeError:
            raise DataFault(f"{self.name}, line {above + 1}: is not UTF-8") from None


def _end_of_records(data: bytes) -> int:
    """The number of bytes up to the last newline that ends a record; 0 for none."""
    quotes = data.count(b'"')
    position = len(data)
    while (newline := data.rfind(b"\n", 0, position)) >= 0:
        quotes -= data.count(b'"', newline, position)
        if quotes % 2 == 0:
            return newline + 1
        position = newline
    return 0


def recognise_header(name: str, line: str, known: Sequence[str]) -> Header:
    """The columns that a header line names, among those ``known`` of the table.

    The delimiter is the one under which most fields are known columns: a check, not a
    guess. Blanks and quotes around names and their capitals do not matter. Raises
    DataFault for a column that is missing, unknown or named twice.
    """
    names = {column.lower(): column for column in known}
    best = max(
        (
            Header(tuple(_fields(line, delimiter)), delimiter)
            for delimiter in DELIMITERS
        ),
        key=lambda header: len(names.keys() & set(header.columns)),
    )
    found = best.columns
    missing = [column for folded, column in names.items() if folded not in found]
    if len(missing) == len(names):
        raise DataFault(
            f"{name}: its first line names none of the columns {', '.join(known)}: "
            "is this the right file?"
        )
    for column in found:
        if found.count(column) > 1:
            raise DataFault(f"{name}: names the column {column!r} twice")
        if column not in names:
            raise DataFault(
                f"{name}: has a column {column!r}, which is none of {', '.join(known)}"
            )
    if missing:
        raise DataFault(f"{name}: lacks the column {missing[0]!r}")
    return Header(tuple(names[column] for column in found), best.delimiter)


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        fields = next(csv.reader([line.strip("\r\n")], delimiter=delimiter))
    except csv.Error:
        return []
    return [field.strip().strip('"').strip().lower() for field in fields]
