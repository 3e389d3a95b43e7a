"""A CSV file cut into blocks of whole records, each with the line where it starts.

Cuts bytes and counts lines; knows no table and parses no value. Of each block it tells
the plain records, which COPY may take, from the odd ones: forms.py says what is plain.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from etl.csvfiles.forms import Forms, has_marks
from etl.csvfiles.headers import Header, find_header
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

#: What is left of line ends, and of files that were put together, at a record's edges.
EDGES = "\r\n\x1a\ufeff"

#: Records that are told one by one at a time: each takes 200 bytes of memory.
MOST_RECORDS_AT_ONCE = 20_000


def block_bytes(streams: int) -> int:
    """The size of a block where so many streams load at once, in bytes."""
    return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, BYTES_OF_ALL_BLOCKS // streams))


@dataclass(frozen=True, slots=True)
class Record:
    """One record without its line end; ``line`` is where it starts, from 1."""

    line: int
    text: str


@dataclass(frozen=True)
class Block:
    """Whole records that follow each other in a file.

    ``offset`` and ``length`` are its place in the file, ``line`` is its first line of
    so many ``lines``.
    ``plain`` holds the plain records as they stand in the file, in ``plain_lines``
    lines, ``odd`` the other ones.
    """

    offset: int
    length: int
    line: int
    lines: int
    plain: bytes = b""
    plain_lines: int = 0
    odd: tuple[Record, ...] = ()


class BlockReader:
    """Reads one file from start to end, block by block; keeps one block at a time.

    ``offset`` is the place where the next block begins. ``is_over`` tells that no block
    is left, as soon as that is known.
    """

    def __init__(
        self, file: TextFile, known: Sequence[str], block_bytes: int = LARGEST_BLOCK
    ) -> None:
        """Read up to the end of the header; ``known`` are the columns of the table.

        Raises DataFault where the header is wrong: see ``find_header``.
        """
        self._file = file
        self._block_bytes = block_bytes
        self.offset, self._line = 0, 1
        self._rest = b""
        self._reached_end = False
        self.header = self._read_header(known)

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
            raise self._no_record(self._rest, forms)
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
            if not forms.blank.fullmatch(record):
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
                return self._block(lines, end, lines, count)
        data = self._rest
        plain: list[bytes] = []
        odd: list[Record] = []
        # Records with marks take the slow path: it takes these off the edges of values.
        plain_end = _marked_plain_end if has_marks(data) else _plain_end
        position, line = 0, self._line
        while position < len(data):
            # What cannot be matched up to here is too long, or not whole yet.
            reach = min(position + LONGEST_RECORD + 1, len(data))
            if (end := plain_end(forms, data, position, reach)) > position:
                plain.append(data[position:end])
            elif (end := _end(forms.blank, data, position, reach)) > position:
                pass
            elif (end := _end(forms.record, data, position, reach)) > position:
                odd.append(self._record(line, data[position:end]))
                if len(odd) == MOST_RECORDS_AT_ONCE:
                    position = end
                    break
            elif position == 0 and len(data) > LONGEST_RECORD:
                raise self._no_record(data, forms)
            else:
                break
            line += data.count(b"\n", position, end)
            position = end
        if position == 0:
            return None
        self._rest = data[position:]
        text = b"".join(plain)
        block = self._block(data, position, text, text.count(b"\n"))
        return replace(block, odd=tuple(odd))

    def _block(self, data: bytes, end: int, plain: bytes, plain_lines: int) -> Block:
        """The block that ends there in ``data``, its irregular records aside."""
        lines = plain_lines if len(plain) == end else data.count(b"\n", 0, end)
        if b"\r" in plain and b'"' not in plain:
            plain = plain.replace(b"\r\n", b"\n")  # COPY refuses a mixture
        block = Block(self.offset, end, self._line, lines, plain, plain_lines)
        self.offset += end
        self._line += lines
        return block

    def _no_record(self, data: bytes, forms: Forms) -> DataFault:
        """Why ``data``, to the end of the file or longer than a record, is none."""
        field = _end(forms.fields, data, 0)
        opened = forms.open_quote.match(data, field)
        if opened is None or not _is_open(data, opened.end()):
            return DataFault(
                f"{self._file.name}, line {self._line}: a record of over 1 MiB, which "
                "is the most: is a quote left open?"
            )
        line = self._line + data.count(b"\n", 0, data.index(b'"', field))
        bound = " within 1 MiB" if len(data) > LONGEST_RECORD else ""
        return DataFault(
            f"{self._file.name}, line {line}: a quote opens that never closes{bound}: "
            "close it, or put the whole value in quotes and double this one"
        )

    def _record(self, line: int, record: bytes) -> Record:
        return Record(line, self._file.require_text(record, line).strip(EDGES))

    def _read_header(self, known: Sequence[str]) -> Header:
        """The header; what follows it waits in ``_rest``."""
        data = b""
        while True:
            more = self._file.read(self._block_bytes)
            data += more
            found = find_header(self._file.name, data, known, is_whole=not more)
            if found is not None:
                break
        self.offset, self._rest = found.end, data[found.end :]
        self._line = 1 + data.count(b"\n", 0, found.end)
        return found.header


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


def _is_open(data: bytes, end: int) -> bool:
    """Whether a quoted value whose text ends there is not closed in ``data``."""
    return data[end : end + 1] != b'"' or end + 1 >= len(data)


def _plain_end(forms: Forms, data: bytes, position: int, reach: int) -> int:
    """Where the plain records end that begin at ``position``; there, without any."""
    return _end(forms.plain, data, position, reach)


def _marked_plain_end(forms: Forms, data: bytes, position: int, reach: int) -> int:
    """The same for one record, and only where it has no marks."""
    end = _end(forms.record, data, position, reach)
    record = data[position:end]
    is_plain = forms.plain.fullmatch(record) and not has_marks(record)
    return end if is_plain else position


def _end(form: re.Pattern[bytes], data: bytes, position: int, reach: int = -1) -> int:
    """Where a match ends that begins at ``position``; there, where nothing matches."""
    found = form.match(data, position, reach if reach >= 0 else len(data))
    return found.end() if found else position
