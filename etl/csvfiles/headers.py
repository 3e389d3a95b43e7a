"""The header of a CSV file: where it ends, its columns, and the delimiter of the file.

Knows the columns of a table by their names. Of records it reads how many fields the
first ones have, and nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from etl.csvfiles.fields import Fields, split_record
from etl.csvfiles.forms import BYTE_ORDER_MARK, repeated
from etl.csvfiles.signatures import LONGEST_SIGNATURE, describe_binary
from etl.errors import DataFault

DELIMITERS = (",", "\t", ";", "|")

#: Bytes that a header may have: more than any has, and too few to swallow a file.
MAX_HEADER_BYTES = 64 << 10

#: Bytes of blank lines that may come before the header.
MAX_BLANK_BYTES = 1 << 20

#: Names of a header that a message shows, and characters of each.
MAX_NAMES_SHOWN, MAX_NAME_LENGTH = 10, 40

#: Records that are read to see whether an unnamed column has values.
SAMPLE_RECORDS = 100

#: Lines above the header that hold nothing, rows of delimiters among them.
BLANK_LINES = re.compile(
    repeated(repeated(rb'[ \t\r\x1a,;|]+|""(?!")|' + BYTE_ORDER_MARK) + rb"\n")
)

#: The line by which a spreadsheet says which delimiter follows: sep=;
SEPARATOR_LINE = re.compile(
    rb'"?sep=(?P<delimiter>[^\r\n"]?)"?[,;|\t ]*+\r*+\n', re.IGNORECASE
)

MARKS = re.compile(repeated(BYTE_ORDER_MARK))


@dataclass(frozen=True)
class Header:
    """The columns of a file in its order, and the delimiter between them.

    ``columns`` are those that COPY loads; an unknown one is called ``column 5`` and so
    on, since a file may well repeat its name. ``unknown`` are the names of those.
    ``fields`` are the columns as the slow path takes them: '' is an empty name at the
    end of the header, which is no column. A record may leave such a field out, or have
    it blank; COPY loads as many as most records have.
    """

    columns: tuple[str, ...]
    delimiter: str
    unknown: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def is_blank(self) -> tuple[bool, ...]:
        """For each of ``columns``, whether it is an unnamed one without values."""
        named = sum(map(bool, self.fields))
        return tuple(number >= named for number in range(len(self.columns)))


@dataclass(frozen=True)
class FoundHeader:
    """A header, the line where it begins, from 1, and where it ends in the bytes."""

    header: Header
    line: int
    end: int


def find_header(
    name: str, data: bytes, known: Sequence[str], *, is_whole: bool
) -> FoundHeader | None:
    """The header of a file that begins with ``data``, and ends there if ``is_whole``.

    ``known`` are the columns of the table: the delimiter is the one under which most
    of them are found. None where more bytes are needed. Raises DataFault where there is
    no header, a quote in it is out of place, or a column is missing or named twice.
    """
    if len(data) < LONGEST_SIGNATURE and not is_whole:
        return None
    if what := describe_binary(data):
        raise DataFault(f"{name}: {what}")
    length = len(data)
    if is_whole and not data.endswith(b"\n"):
        data += b"\n"
    start = _after_blank(data, 0)
    delimiters: Sequence[str] = DELIMITERS
    if separator := SEPARATOR_LINE.match(data, start):
        delimiters = [_delimiter_of(name, separator)]
        start = _after_blank(data, separator.end())
    if is_whole and start == len(data):
        raise DataFault(f"{name}: is empty: its first line names the columns")
    if start > MAX_BLANK_BYTES:
        raise DataFault(f"{name}: begins with over 1 MiB of blank lines: remove them")
    line = 1 + data.count(b"\n", 0, start)
    if b"\n" not in data[start:]:
        if len(data) - start <= MAX_HEADER_BYTES:
            return None
        _require_line_ends(name, data[start : start + MAX_HEADER_BYTES])
    candidates = [(split_record(data, start, each), each) for each in delimiters]
    is_complete = is_whole or len(data) - start > MAX_HEADER_BYTES
    if not is_complete and any(
        found.end is None and found.stray is None for found, _ in candidates
    ):
        return None
    found, delimiter = max(
        candidates, key=lambda each: _suitability(data, start, each[0], each[1], known)
    )
    end = _require_end(name, data, start, found, delimiter)
    _require_line_ends(name, data[start:end])
    names = [_text(name, each, line) for each in found.values]
    _require_known(name, line, names, known)
    if names[-1].strip() == "" and not is_whole and len(data) - end < MAX_HEADER_BYTES:
        return None  # the first records say what an empty name is worth
    header = _header(names, delimiter, known, data[end:])
    return FoundHeader(header, line, min(end, length))


def visible(text: str) -> str:
    """A name as a message shows it: cut, invisible characters by their code points."""
    cut = text[:MAX_NAME_LENGTH] + ("…" if len(text) > MAX_NAME_LENGTH else "")
    return "".join(
        char if char.isprintable() else f"<U+{ord(char):04X}>" for char in cut
    )


def _after_blank(data: bytes, start: int) -> int:
    """Where the first line begins that is not blank, after any byte-order mark."""
    blank = BLANK_LINES.match(data, start)
    marks = MARKS.match(data, blank.end() if blank else start)
    return marks.end() if marks else start


def _delimiter_of(name: str, separator: re.Match[bytes]) -> str:
    delimiter = separator["delimiter"].decode("ascii", "replace")
    if delimiter not in DELIMITERS:
        raise DataFault(
            f"{name}: its first line says that the delimiter is {visible(delimiter)!r}:"
            " a comma, a semicolon, a tab or a bar is needed"
        )
    return delimiter


def _suitability(
    data: bytes, start: int, found: Fields, delimiter: str, known: Sequence[str]
) -> tuple[int, bool]:
    """How well a delimiter suits: the known columns that it finds, and no fault.

    Of a header with a quote out of place, the first line is split at every delimiter.
    """
    is_right = found.stray is None and found.opened is None
    names = found.values
    if not is_right:
        line = data[start : start + MAX_HEADER_BYTES].split(b"\n", 1)[0]
        names = [each.strip(b' \t\r"') for each in line.split(delimiter.encode())]
    folded = {_folded(each.decode("utf-8", "replace")) for each in names}
    return len(folded & {_folded(column) for column in known}), is_right


def _require_end(
    name: str, data: bytes, start: int, found: Fields, delimiter: str
) -> int:
    """Where the header ends. Raises DataFault where a quote is out of place."""
    where = found.opened if found.stray is None else found.stray
    if where is not None:
        line = 1 + data.count(b"\n", 0, where)
        place = f"{name}, line {line}, column {len(found.values) + 1}"
        if found.stray is None:
            raise DataFault(
                f"{place}: a quote opens in the header that never closes: remove it, "
                "or close it after the name"
            )
        begin = data.rfind(delimiter.encode(), start, where) + 1
        until = re.compile(rb"[^\n%s]*+" % re.escape(delimiter).encode())
        value = until.match(data, max(begin, start))
        shown = _text(name, value[0] if value else b"", line)
        raise DataFault(
            f"{place}: a quote is out of place in the header, in {visible(shown)}: "
            "remove it, or put the whole name in quotes and double this one"
        )
    if found.end is None or found.end - start > MAX_HEADER_BYTES:
        line = 1 + data.count(b"\n", 0, start)
        raise DataFault(f"{name}, line {line}: the header is longer than 64 KiB")
    delimiters = len(found.values) - 1
    for number, each in enumerate(found.values, start=1):
        lines = each.split(b"\n")[1:]
        if any(line.count(delimiter.encode()) >= delimiters for line in lines):
            line = 1 + data.count(b"\n", 0, start)
            raise DataFault(
                f"{name}, line {line}, column {number}: a quote opens in the header "
                f"and closes {len(lines)} lines below, after whole records: remove it, "
                "or close it after the name"
            )
    return found.end


def _require_line_ends(name: str, header: bytes) -> None:
    if b"\r" in re.sub(rb'"[^"]*"', b"", header.strip(b"\r\n")):
        raise DataFault(
            f"{name}: its lines end in a carriage return alone: end them in a newline"
        )


def _text(name: str, value: bytes, line: int) -> str:
    if b"\0" in value:
        raise DataFault(f"{name}, line {line}: holds a NUL byte: remove it")
    try:
        return value.decode().replace("\ufeff", "").strip()
    except UnicodeDecodeError:
        raise DataFault(
            f"{name}, line {line}: is not UTF-8: save the file as UTF-8"
        ) from None


def _folded(name: str) -> str:
    """A name without what does not matter: its case, and spaces for underscores."""
    return "_".join(name.casefold().split())


def _require_known(
    name: str, line: int, names: Sequence[str], known: Sequence[str]
) -> None:
    """Raise DataFault where a known column is missing, or named twice."""
    folded = [_folded(each) for each in names]
    shown = ", ".join(visible(each) or "''" for each in names[:MAX_NAMES_SHOWN])
    shown += ", …" if len(names) > MAX_NAMES_SHOWN else ""
    missing = [column for column in known if _folded(column) not in folded]
    if len(missing) == len(known):
        raise DataFault(
            f"{name}, line {line}: names none of the columns {', '.join(known)} "
            f"(found: {shown}): is this the right file?"
        )
    for column in known:
        same = [
            visible(each)
            for each, fold in zip(names, folded, strict=True)
            if fold == _folded(column)
        ]
        if len(same) > 1:
            raise DataFault(
                f"{name}, line {line}: names the column {column!r} twice "
                f"({', '.join(same)}): leave one of them out"
            )
    if missing:
        raise DataFault(
            f"{name}, line {line}: lacks the column {missing[0]!r} (found: {shown}): "
            "add it to the file"
        )


def _header(
    names: Sequence[str], delimiter: str, known: Sequence[str], records: bytes
) -> Header:
    columns_of = {_folded(column): column for column in known}
    found = [
        columns_of.get(_folded(each)) or f"column {number}"
        for number, each in enumerate(names, start=1)
    ]
    unnamed = len(list(takewhile(lambda each: each == "", reversed(names))))
    named = len(names) - unnamed
    loaded, fields = len(names), found
    widths = range(named, len(names) + 1)
    if unnamed and (width := _width_without_values(records, delimiter, widths)):
        loaded, fields = width, [*found[:named], *[""] * unnamed]
        names = names[:named]
    return Header(
        columns=tuple(found[:loaded]),
        delimiter=delimiter,
        unknown=tuple(each for each in names if _folded(each) not in columns_of),
        fields=tuple(fields),
    )


def _width_without_values(records: bytes, delimiter: str, widths: range) -> int | None:
    """How many fields most of the first records have, of the ``widths`` that they may
    have; None where one has a value in a field beyond the first of these.
    """
    counts = Counter({widths.start: 0})
    position = 0
    for _ in range(SAMPLE_RECORDS):
        blank = BLANK_LINES.match(records, position)
        position = blank.end() if blank else position
        found = split_record(records, position, delimiter)
        if len(found.values) in widths and found.stray is None:
            counts[len(found.values)] += 1
            if any(value.strip() for value in found.values[widths.start :]):
                return None
        position = found.end or records.find(b"\n", position) + 1
        if position == 0:
            break
    return counts.most_common(1)[0][0]
