"""The header of a CSV file: where it ends, its columns, and the delimiter of the file.

Knows the columns of a table by their names. Of records it reads how many fields the
first ones have, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from etl.csvfiles.fields import (
    BLANK_LINES,
    MARKS,
    Fields,
    split_record,
    width_without_values,
)
from etl.csvfiles.signatures import LONGEST_SIGNATURE, describe_binary
from etl.errors import DataFault

DELIMITERS = (",", "\t", ";", "|")

#: Bytes that a header may have: more than any has, and too few to swallow a file.
MAX_HEADER_BYTES = 64 << 10

#: Bytes of blank lines that may come before the header.
MAX_BLANK_BYTES = 1 << 20

#: Names of a header that a message shows, and characters of each.
MAX_NAMES_SHOWN, MAX_NAME_LENGTH = 10, 40

#: The line by which a spreadsheet says which delimiter follows: sep=;
SEPARATOR_LINE = re.compile(
    rb'"?sep=(?P<delimiter>[^\r\n"]?)"?[,;|\t ]*+\r*+\n', re.IGNORECASE
)

#: Taken out of names: byte-order marks, and the end of a file in DOS.
UNSEEN = dict.fromkeys(map(ord, "\ufeff\x1a"))


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


@dataclass(frozen=True)
class _Candidate:
    """The header under a delimiter, and how many known columns it has then.

    Of a header with a quote out of place, ``names`` are its first line split at every
    delimiter: enough to see which of them is meant.
    """

    delimiter: str
    fields: Fields
    names: list[bytes]
    known: int

    @classmethod
    def of(
        cls, data: bytes, start: int, delimiter: str, known: Sequence[str]
    ) -> _Candidate:
        """Read the header that begins there as if this were the delimiter."""
        fields = split_record(data, start, delimiter)
        names = fields.values
        if fields.end is None:
            line = data[start : start + MAX_HEADER_BYTES].split(b"\n", 1)[0]
            names = [each.strip(b' \t\r"') for each in line.split(delimiter.encode())]
        folded = {_folded(each.decode("utf-8", "replace")) for each in names}
        common = folded & {_folded(column) for column in known}
        return cls(delimiter, fields, names, len(common))

    @property
    def is_unfinished(self) -> bool:
        """Whether more bytes may bring the end of the header."""
        return self.fields.end is None and self.fields.stray is None


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
    start, delimiters = _skip_to_header(name, data)
    if is_whole and start == len(data):
        raise DataFault(f"{name}: is empty: its first line names the columns")
    if start > MAX_BLANK_BYTES:
        raise DataFault(f"{name}: begins with over 1 MiB of blank lines: remove them")
    is_enough = is_whole or len(data) - start > MAX_HEADER_BYTES
    candidates = [_Candidate.of(data, start, each, known) for each in delimiters]
    if not is_enough and any(each.is_unfinished for each in candidates):
        return None
    best = max(candidates, key=lambda each: (each.known, each.fields.end is not None))
    line = _line_of(data, start)
    end = (
        _require_end(name, data, start, best, known)
        if best.known or (best.fields.end and b"\n" in best.names[0])
        else data.find(b"\n", start) + 1
    )
    _require_line_ends(name, data[start:end])
    names = [_text(name, each, line) for each in best.names]
    _require_known(name, line, names, known)
    if names[-1] == "" and not is_whole and len(data) - end < MAX_HEADER_BYTES:
        return None  # the first records say what an empty name is worth
    header = _header(names, best.delimiter, known, data[end:])
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


def _skip_to_header(name: str, data: bytes) -> tuple[int, Sequence[str]]:
    """Where the header begins, and the delimiters that it may have.

    Raises DataFault where a line says a delimiter that it cannot have.
    """
    start = _after_blank(data, 0)
    separator = SEPARATOR_LINE.match(data, start)
    if separator is None:
        return start, DELIMITERS
    delimiter = separator["delimiter"].decode("ascii", "replace")
    if delimiter not in DELIMITERS:
        raise DataFault(
            f"{name}: its first line says that the delimiter is {visible(delimiter)!r}:"
            " a comma, a semicolon, a tab or a bar is needed"
        )
    return _after_blank(data, separator.end()), [delimiter]


def _require_end(
    name: str, data: bytes, start: int, best: _Candidate, known: Sequence[str]
) -> int:
    """Where the header ends. Raises DataFault where a quote is out of place, or a name
    holds a line with as many delimiters as a record of the known columns has.
    """
    found, delimiter = best.fields, best.delimiter
    where = found.opened if found.stray is None else found.stray
    if where is not None:
        line = _line_of(data, where)
        place = f"{name}, line {line}, column {len(found.values) + 1}"
        if found.stray is None:
            raise DataFault(
                f"{place}: a quote opens in the header that never closes: remove it, "
                "or close it after the name"
            )
        begin = data.rfind(delimiter.encode(), start, where) + 1
        value = data[max(begin, start) :].split(b"\n", 1)[0]
        shown = _text(name, value.split(delimiter.encode(), 1)[0], line)
        raise DataFault(
            f"{place}: a quote is out of place in the header, in {visible(shown)}: "
            "remove it, or put the whole name in quotes and double this one"
        )
    line = _line_of(data, start)
    if found.end is None or found.end - start > MAX_HEADER_BYTES:
        _require_line_ends(name, data[start : start + MAX_HEADER_BYTES])
        raise DataFault(f"{name}, line {line}: the header is longer than 64 KiB")
    delimiters = min(len(found.values) - 1, max(len(known) - 1, 1))
    for number, each in enumerate(found.values, start=1):
        lines = each.split(b"\n")[1:]
        if any(text.count(delimiter.encode()) >= delimiters for text in lines):
            raise DataFault(
                f"{name}, line {line}, column {number}: a quote opens in the header "
                f"and closes in line {line + len(lines)}, after whole records: remove "
                "it, or close it after the name"
            )
    return found.end


def _line_of(data: bytes, position: int) -> int:
    return 1 + data.count(b"\n", 0, position)


def _require_line_ends(name: str, header: bytes) -> None:
    if b"\r" in re.sub(rb'"[^"]*"', b"", header.strip(b"\r\n")):
        raise DataFault(
            f"{name}: its lines end in a carriage return alone: end them in a newline"
        )


def _text(name: str, value: bytes, line: int) -> str:
    if b"\0" in value:
        raise DataFault(f"{name}, line {line}: holds a NUL byte: remove it")
    try:
        return value.decode().translate(UNSEEN).strip()
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
    if unnamed and (width := width_without_values(records, delimiter, widths)):
        loaded, fields = width, [*found[:named], *[""] * unnamed]
        names = names[:named]
    return Header(
        columns=tuple(found[:loaded]),
        delimiter=delimiter,
        unknown=tuple(each for each in names if _folded(each) not in columns_of),
        fields=tuple(fields),
    )
