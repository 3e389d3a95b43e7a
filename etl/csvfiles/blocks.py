"""A CSV file cut into blocks of whole records, each with the line where it starts.

Cuts bytes and counts lines; knows no table and parses no value. Of each block it tells
the plain records, which COPY may take, from the odd ones: forms.py says what is plain.
"""

from __future__ import annotations

import io
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from etl.csvfiles.forms import Forms, repeated
from etl.csvfiles.textfile import TextFile
from etl.errors import DataFault

#: Leaves some of the records that are given with their lines; each has its line end.
Choice = Callable[[Iterable[tuple[int, bytes]]], Iterable[tuple[int, bytes]]]

#: Bytes of a block. Larger ones load faster, by a tenth from 1 MB to 4 MB, and memory
#: holds two or three a stream: with many streams they are smaller.
LARGEST_BLOCK, SMALLEST_BLOCK = 4 << 20, 1 << 20
BYTES_OF_ALL_BLOCKS = 16 << 20

#: Bytes of the longest record that is taken; beyond it a quote was likely left open.
LONGEST_RECORD = 1 << 20

#: Records that are told one by one at a time: each takes 200 bytes of memory.
MOST_RECORDS_AT_ONCE = 20_000

#: Bytes that are kept of a longer one, for people to recognise it.
HEAD_OF_LONG_RECORD = 200

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

#: A first line, with the line ends that stand in quotes.
HEADER_LINE = re.compile(rb'[^"\n]*+' + repeated(rb'"[^"]*+"[^"\n]*+') + rb"\n")

BLANK_LINES = re.compile(repeated(rb"[ \t\r]*+\n"))


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

    ``header_line`` is the first line, ``offset`` the place where the next block begins.
    ``is_over`` tells that no block is left, as soon as that is known.
    """

    def __init__(self, file: TextFile, block_bytes: int = LARGEST_BLOCK) -> None:
        """Read up to the header line. Raises DataFault where there is none."""
        self._file = file
        self._block_bytes = block_bytes
        self.offset, self._line = 0, 1
        self._rest = b""
        self._reached_end = False
        self.header_line = self._read_header_line()

    @property
    def is_over(self) -> bool:
        return self._reached_end and not self._rest

    def next_block(self, forms: Forms) -> Block | None:
        """The next records, or None at the end of the file.

        Raises DataFault where a quote never closes, the file is not UTF-8, or was
        changed while it was read.
        """
        if len(self._rest) >= self._block_bytes and (block := self._cut(forms)):
            return block
        while more := self._file.read(self._block_bytes):
            self._rest += more
            if block := self._cut(forms):
                return block
        self._reached_end = True
        if not self._rest:
            return None
        if not self._rest.endswith(b"\n"):
            self._rest += b"\n"
        block = self._cut(forms)
        if block is None:
            raise self._open_quote(self._rest, forms)
        return block

    def records_of(
        self, block: Block, forms: Forms, choose: Choice = iter
    ) -> Iterator[Record]:
        """The records of a block once more, from the file; those that ``choose`` leaves
        of them. Raises DataFault.
        """
        data = self._file.read_again(block.offset, block.length)
        if not data.endswith(b"\n"):
            data += b"\n"
        for line, record in choose(_records_in(data, block.line, forms)):
            if not BLANK_LINES.fullmatch(record):
                yield self._record(line, record)

    def _cut(self, forms: Forms) -> Block | None:
        """The whole records of ``_rest``, which starts with one; the others stay there.

        None where there are none yet.
        """
        end = self._rest.rfind(b"\n") + 1
        if end:
            lines = self._rest[:end]
            if _are_short(lines) and (count := forms.count_plain(lines)) is not None:
                self._rest = self._rest[end:]
                return self._block(lines, end, lines, (), count)
        data = self._rest
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
                if len(odd) == MOST_RECORDS_AT_ONCE:
                    position = end
                    break
            elif position == 0 and len(data) > LONGEST_RECORD:
                return self._skip_long_record(data, forms)
            else:
                break
            line += data.count(b"\n", position, end)
            position = end
        if position == 0:
            return None
        self._rest = data[position:]
        text = b"".join(plain)
        return self._block(data, position, text, tuple(odd), text.count(b"\n"))

    def _block(
        self,
        data: bytes,
        end: int,
        plain: bytes,
        odd: tuple[Record, ...],
        plain_lines: int,
    ) -> Block:
        """The block that ends there in ``data``."""
        lines = plain_lines if len(plain) == end else data.count(b"\n", 0, end)
        if b"\r" in plain and b'"' not in plain:
            plain = plain.replace(b"\r\n", b"\n")  # COPY refuses a mixture
        block = Block(self.offset, end, self._line, plain, plain_lines, odd)
        self.offset += end
        self._line += lines
        return block

    def _skip_long_record(self, data: bytes, forms: Forms) -> Block:
        """Read past a record that is too long to be held, keeping none of it.

        ``state`` stands before ``data`` for what was read of its last field: a quote
        that is open, or a value without one.
        """
        head = data[:HEAD_OF_LONG_RECORD].decode("utf-8", "ignore")
        decoder = getincrementaldecoder("utf-8")()
        is_blank = True
        length = lines = 0
        opened = self._line
        state = b""
        while (end := _end(forms.record, state + data, 0)) == 0:
            text = state + data
            field = _end(forms.fields, text, 0)
            reached = _end(forms.open_quote, text, field)
            if field < reached >= len(text) - 1:  # a quote at its end may be doubled
                if field > 0 or state != b'"':
                    quote = text.index(b'"', field)
                    opened = self._line + lines + text.count(b"\n", 0, quote)
                kept, now = text[reached:], b'"'
            else:
                kept, now = b"", b"x" if text[field:].strip(b" \t") else b" "
            dropped = data[: len(data) - len(kept)]
            self._file.require_text(dropped, self._line + lines, decoder)
            is_blank = is_blank and not dropped.strip(b" \t\r\n")
            length += len(dropped)
            lines += dropped.count(b"\n")
            more = self._file.read(self._block_bytes)
            if not more and now == b'"' and not kept:
                raise self._never_closes(opened)
            data, state = kept + (more or b"\n"), now
        dropped, self._rest = data[: end - len(state)], data[end - len(state) :]
        self._file.require_text(dropped, self._line + lines, decoder)
        is_blank = is_blank and not dropped.strip(b" \t\r\n")
        length += len(dropped)
        lines += dropped.count(b"\n")
        record = None if is_blank else LongRecord(self._line, length, head)
        block = Block(self.offset, length, self._line, long=record)
        self.offset += length
        self._line += lines
        return block

    def _open_quote(self, data: bytes, forms: Forms) -> DataFault:
        """The fault of a file that ends with ``data``, which is no whole record."""
        quote = data.index(b'"', _end(forms.fields, data, 0))
        return self._never_closes(self._line + data.count(b"\n", 0, quote))

    def _never_closes(self, line: int) -> DataFault:
        return DataFault(
            f"{self._file.name}, line {line}: a quote opens that never closes: close "
            "it, or put the whole value in quotes and double this one"
        )

    def _record(self, line: int, record: bytes) -> Record:
        text = record.removesuffix(b"\n").removesuffix(b"\r")
        return Record(line, self._file.require_text(text, line))

    def _read_header_line(self) -> str:
        """The first line that is not blank; what follows it waits in ``_rest``.

        Where a quote is open at its end, it goes on: a name may hold a line end.
        """
        data = self._file.read(self._block_bytes)
        if data.startswith(UTF_16_MARKS):
            raise DataFault(f"{self._file.name}: is UTF-16: save the file as UTF-8")
        self.offset = len(data)
        data = data.removeprefix(BYTE_ORDER_MARK)
        while True:
            blank = _end(BLANK_LINES, data, 0)
            self._line += data.count(b"\n", 0, blank)
            data = data[blank:]
            header = HEADER_LINE.match(data)
            if header is not None or len(data) > LONGEST_RECORD:
                break
            more = self._file.read(self._block_bytes)
            if not more:
                break
            data += more
            self.offset += len(more)
        line = header[0] if header is not None else data
        if not line.strip(b" \t\r\n"):
            raise DataFault(
                f"{self._file.name}: is empty: its first line names the columns"
            )
        self._rest = data[len(line) :]
        self.offset -= len(self._rest)
        text = self._record(self._line, line).text
        self._line += line.count(b"\n")
        return text


def _records_in(data: bytes, line: int, forms: Forms) -> Iterator[tuple[int, bytes]]:
    """Whole records with the lines where they start, blank ones among them."""
    if b'"' not in data:
        yield from enumerate(io.BytesIO(data), line)
        return
    position = 0
    while found := forms.record.match(data, position):
        yield line, found[0]
        line += found[0].count(b"\n")
        position = found.end()


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
