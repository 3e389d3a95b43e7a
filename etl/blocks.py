"""A CSV file cut into blocks of whole records, each with the line where it starts.

Cuts bytes and counts lines; knows no table and parses no value. Of each block it tells
the plain records, which COPY may take, from the odd ones: forms.py says what is plain.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etl.errors import DataFault
from etl.forms import Forms

#: Bytes of a block. Larger ones load faster, by a tenth from 1 MB to 4 MB, and memory
#: holds two or three a stream: with many streams they are smaller.
LARGEST_BLOCK, SMALLEST_BLOCK = 4 << 20, 1 << 20
BYTES_OF_ALL_BLOCKS = 16 << 20

#: Bytes of the longest record that is taken; beyond it a quote was likely left open.
LONGEST_RECORD = 1 << 20

#: Bytes that are kept of a longer one, for people to recognise it.
HEAD_OF_LONG_RECORD = 200

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

BLANK_LINES = re.compile(rb"(?:[ \t\r]*+\n)++")


def block_bytes(streams: int) -> int:
    """The size of a block where so many streams load at once, in bytes."""
    return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, BYTES_OF_ALL_BLOCKS // streams))


@dataclass(frozen=True, slots=True)
class Record:
    """One record without its line end; ``line`` is where it starts, from 1."""

    line: int
    text: str


@dataclass(frozen=True)
class LongRecord:
    """A record that is too long to be held: its length in bytes, and how it begins."""

    line: int
    length: int
    head: str


@dataclass(frozen=True)
class Block:
    """Whole records that follow each other in a file.

    ``offset`` and ``length`` are its place in the file, ``line`` is its first line.
    ``plain`` holds the plain records as they stand in the file, in ``plain_lines``
    lines, ``odd`` the other ones; a ``long`` one is a block of its own.
    """

    offset: int
    length: int
    line: int
    plain: bytes = b""
    plain_lines: int = 0
    odd: tuple[Record, ...] = ()
    long: LongRecord | None = None


class BlockReader:
    """Reads one file from start to end, block by block; keeps one block at a time.

    ``bytes`` and ``sha256`` tell of what was read so far, ``size`` of all there is.
    """

    def __init__(self, path: Path, block_bytes: int = LARGEST_BLOCK) -> None:
        """Open the file and read up to its header line.

        Raises DataFault where the file cannot be read or has no header line.
        """
        self.name = path.name
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._block_bytes = block_bytes
        self._file = _open(path)
        self._found = _state(self._file)
        self.size = self._found[0]
        self._offset, self._line = 0, 1
        self._rest = b""
        try:
            self.header_line = self._read_header_line()
        except BaseException:
            os.close(self._file)
            raise

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far, in hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file; a thread that still reads it fails, and reads no other."""
        file, self._file = self._file, -1
        os.close(file)

    def next_block(self, forms: Forms) -> Block | None:
        """The next records, or None at the end of the file.

        Raises DataFault where a quote never closes, the file is not UTF-8, or was
        changed while it was read.
        """
        data, self._rest = self._rest, b""
        while more := self._read():
            data += more
            block = self._cut(data, forms)
            if block is not None:
                return block
        if not data:
            self._require_unchanged()
            return None
        block = self._cut(data if data.endswith(b"\n") else data + b"\n", forms)
        if block is None:
            raise self._open_quote(data, forms)
        return block

    def records_of(self, block: Block, forms: Forms) -> Iterator[Record]:
        """The records of a block once more, from the file. Raises DataFault."""
        data = os.pread(self._file, block.length, block.offset)
        self._require_unchanged()
        if not data.endswith(b"\n"):
            data += b"\n"
        position, line = 0, block.line
        while found := forms.record.match(data, position):
            if not BLANK_LINES.fullmatch(found[0]):
                yield self._record(line, found[0])
            line += found[0].count(b"\n")
            position = found.end()

    def _cut(self, data: bytes, forms: Forms) -> Block | None:
        """The whole records of ``data``, which starts with one; the others wait.

        None where there are none yet.
        """
        end = data.rfind(b"\n") + 1
        lines = data[:end]
        if lines and _are_short(lines) and forms.all_plain(lines):
            return self._block(data, end, lines, ())
        plain: list[bytes] = []
        odd: list[Record] = []
        position, line = 0, self._line
        while position < len(data):
            # What cannot be matched up to here is too long, or not whole yet.
            reach = min(position + LONGEST_RECORD + 1, len(data))
            if (end := _end(forms.plain, data, position, reach)) > position:
                plain.append(data[position:end])
            elif (end := _end(BLANK_LINES, data, position, reach)) > position:
                pass
            elif (end := _end(forms.record, data, position, reach)) > position:
                odd.append(self._record(line, data[position:end]))
            elif position == 0 and len(data) > LONGEST_RECORD:
                return self._skip_long_record(data, forms)
            else:
                break
            line += data.count(b"\n", position, end)
            position = end
        if position == 0:
            return None
        return self._block(data, position, b"".join(plain), tuple(odd))

    def _block(
        self, data: bytes, end: int, plain: bytes, odd: tuple[Record, ...]
    ) -> Block:
        """The block that ends there in ``data``; the rest waits."""
        plain_lines = plain.count(b"\n")
        lines = plain_lines if len(plain) == end else data.count(b"\n", 0, end)
        if b"\r" in plain and b'"' not in plain:
            plain = plain.replace(b"\r\n", b"\n")  # COPY refuses a mixture
        block = Block(self._offset, end, self._line, plain, plain_lines, odd)
        self._offset += end
        self._line += lines
        self._rest = data[end:]
        return block

    def _skip_long_record(self, data: bytes, forms: Forms) -> Block:
        """Read past a record that is too long to be held, keeping none of it.

        ``state`` stands before ``data`` for what was read of its last field: a quote
        that is open, or a value without one.
        """
        head = data[:HEAD_OF_LONG_RECORD].decode("utf-8", "ignore")
        length = lines = 0
        opened = self._line
        state = b""
        while (end := _end(forms.record, state + data, 0)) == 0:
            text = state + data
            field = _end(forms.fields, text, 0)
            reached = _end(forms.open_quote, text, field)
            if reached >= len(text) - 1:  # a quote at the very end may be doubled
                if field > 0 or state != b'"':
                    quote = text.index(b'"', field)
                    opened = self._line + lines + text.count(b"\n", 0, quote)
                kept, now = text[reached:], b'"'
            else:
                kept, now = b"", b" " if text[field:].isspace() else b"x"
            dropped = len(data) - len(kept)
            length += dropped
            lines += data.count(b"\n", 0, dropped)
            more = self._read()
            if not more and now == b'"' and not kept:
                raise self._never_closes(opened)
            data, state = kept + (more or b"\n"), now
        end -= len(state)
        length += end
        lines += data.count(b"\n", 0, end)
        self._rest = data[end:]
        record = LongRecord(self._line, length, head)
        block = Block(self._offset, length, self._line, long=record)
        self._offset += length
        self._line += lines
        return block

    def _open_quote(self, data: bytes, forms: Forms) -> DataFault:
        """The fault of a file that ends with ``data``, which is no whole record."""
        quote = data.index(b'"', _end(forms.fields, data, 0))
        return self._never_closes(self._line + data.count(b"\n", 0, quote))

    def _never_closes(self, line: int) -> DataFault:
        return DataFault(
            f"{self.name}, line {line}: a quote opens that never closes: close it, or "
            "put the whole value in quotes and double this one"
        )

    def _record(self, line: int, record: bytes) -> Record:
        text = record.removesuffix(b"\n").removesuffix(b"\r")
        if (nul := record.find(b"\0")) >= 0:
            at = line + record.count(b"\n", 0, nul)
            raise DataFault(f"{self.name}, line {at}: holds a NUL byte: remove it")
        try:
            return Record(line, text.decode("utf-8"))
        except UnicodeDecodeError as error:
            at = line + record.count(b"\n", 0, error.start)
            raise DataFault(
                f"{self.name}, line {at}: is not UTF-8: save the file as UTF-8"
            ) from None

    def _read(self) -> bytes:
        try:
            data = os.read(self._file, self._block_bytes)
        except OSError as error:
            raise DataFault(f"{self.name}: cannot be read: {error.strerror}") from None
        self.bytes += len(data)
        if self.bytes > self.size:
            self._require_unchanged()
        self._digest.update(data)
        return data

    def _require_unchanged(self) -> None:
        if _state(self._file) != self._found:
            raise DataFault(
                f"{self.name}: was changed while it was read: write it elsewhere, then "
                "move it here, and trigger again"
            )

    def _read_header_line(self) -> str:
        """The first line that is not blank; what follows it waits in ``_rest``."""
        data = b""
        while more := self._read():
            data += more
            lines = data.removeprefix(BYTE_ORDER_MARK).lstrip(b" \t\r\n")
            if b"\n" in lines or len(lines) > LONGEST_RECORD:
                break
        lines = data.removeprefix(BYTE_ORDER_MARK).lstrip(b" \t\r\n")
        header, newline, self._rest = lines.partition(b"\n")
        if not header:
            raise DataFault(f"{self.name}: is empty: its first line names the columns")
        self._offset = len(data) - len(self._rest)
        self._line = data[: len(data) - len(lines)].count(b"\n") + 1
        text = self._record(self._line, header).text
        self._line += len(newline)
        return text


def _are_short(lines: bytes) -> bool:
    """Whether no line is as long as the longest record may be, for sure."""
    step = LONGEST_RECORD // 2
    return all(
        lines.find(b"\n", start, start + step) >= 0
        for start in range(0, len(lines), step)
        if start + step <= len(lines)
    )


def _end(form: re.Pattern[bytes], data: bytes, position: int, reach: int = -1) -> int:
    """Where a match ends that begins at ``position``; there, where nothing matches."""
    found = form.match(data, position, reach if reach >= 0 else len(data))
    return found.end() if found else position


def _open(path: Path) -> int:
    """A file descriptor for a file. Raises DataFault."""
    try:
        # not to wait for a writer, should it be a pipe
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataFault(
            f"{path.name}: missing in {path.parent}: put it there"
        ) from None
    except OSError as error:
        raise DataFault(
            f"{path.name}: cannot be read: {error.strerror}: let the service read it"
        ) from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
    raise DataFault(f"{path.name}: is {what}: put the CSV file in its place")


def _state(file: int) -> tuple[int, int]:
    """What tells that a file was changed: its size, and when that was, in ns."""
    found = os.fstat(file)
    return found.st_size, found.st_mtime_ns
