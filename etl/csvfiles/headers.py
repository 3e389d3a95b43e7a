"""The header of a CSV file: where it ends, its columns, and the delimiter of the file.

Knows the columns of a table by their names. Of records it reads how many fields the
first ones have, and nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from etl.csvfiles.fields import BLANK_LINES, MARKS, Fields, split_record, split_records
from etl.csvfiles.patterns import BYTE_ORDER_MARK, END_OF_FILE, match_end
from etl.csvfiles.textfile import decode, describe_binary, printable
from etl.errors import DataFault

DELIMITERS = (",", "\t", ";", "|")

#: Bytes that a header may have: more than any has, and too few to swallow a file; and
#: columns.
MAX_HEADER_BYTES, MAX_COLUMNS = 64 << 10, 1000

#: Bytes of blank lines that may come before the header.
MAX_BLANK_BYTES = 1 << 20

#: Bytes of a file that are enough to read its header, and the first records after it.
HEAD_BYTES = MAX_BLANK_BYTES + 3 * MAX_HEADER_BYTES

#: Records that are read to see whether an unnamed column has values.
SAMPLE_RECORDS = 100

#: What a field without a value may hold.
NOTHING = b" \t\r\n" + END_OF_FILE + BYTE_ORDER_MARK

#: Names of a header that a message lists.
MAX_NAMES = 10

#: The line by which a spreadsheet says which delimiter follows: sep=;
SEPARATOR_LINE = re.compile(
    rb'"?sep=(?P<delimiter>[^\r\n"]?)"?[,;|\t ]*+\r*+\n', re.IGNORECASE
)

#: Removed from names: byte-order marks, and the end of a file in DOS.
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\x1a"))


@dataclass(frozen=True)
class Header:
    """The columns of a file in its order, and the delimiter between them.

    ``columns`` are those that COPY loads; an unknown one is called ``column 5`` and so
    on, since a file may well repeat its name. ``unknown`` are the names of those.
    ``fields`` are the columns as the slow path reads them: '' is an empty name at the
    end of the header, which is no column. A record may leave such a field out, or have
    it blank; COPY loads as many as most records have. ``text`` is all of the header as
    in the file: a byte-order mark, a line ``sep=;``, the names, and the line end.
    """

    columns: tuple[str, ...]
    delimiter: str
    unknown: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    text: str = ""

    @property
    def is_blank(self) -> tuple[bool, ...]:
        """For each of ``columns``, whether it is an unnamed one without values."""
        named = sum(map(bool, self.fields))
        return tuple(number >= named for number in range(len(self.columns)))


def find_header(name: str, head: bytes, known: Sequence[str]) -> tuple[Header, int]:
    """The header of a file that begins with ``head``, and where it ends in the bytes.

    ``head`` is the whole file or its first HEAD_BYTES. ``known`` are the columns of the
    table: the delimiter is the one that finds most of them. Raises DataFault where
    there is no header, a quote in it is not at its position, a column is missing or
    named twice, or there are too many.
    """
    if problem := describe_binary(head):
        raise DataFault(f"{name}: {problem}")
    data = head if head.endswith(b"\n") else head + b"\n"
    before, start, delimiters = _skip_to_header(name, data)
    if start == len(data):
        raise DataFault(f"{name}: is empty: its first line names the columns")
    candidates = {each: split_record(data, start, each) for each in delimiters}

    def rank(delimiter: str) -> tuple[int, bool]:
        fields = candidates[delimiter]
        names = {_folded(each.decode("utf-8", "replace")) for each in fields.values}
        return len(names & set(map(_folded, known))), fields.end is not None

    delimiter = max(candidates, key=rank)
    fields = candidates[delimiter]
    line = _line_of(data, start)
    header = data[start : fields.end or data.index(b"\n", start)]
    if b"\r" in re.sub(rb'"[^"]*"', b"", header[:MAX_HEADER_BYTES].strip(b"\r\n")):
        raise DataFault(
            f"{name}: its lines end in a carriage return alone: end them in a newline"
        )
    names = [_name(name, each, line) for each in fields.values]
    end = start
    if rank(delimiter) > (0, False):
        end = _require_end(name, data, start, fields, delimiter.encode(), len(known))
    _require_known(f"{name}, line {line}", names, known)
    found = _header(names, delimiter, known, data, end)
    if len(found.columns) > MAX_COLUMNS:
        raise DataFault(
            f"{name}: has {len(found.columns)} columns, and {MAX_COLUMNS} are the most:"
            " leave out those that nobody needs"
        )
    text = decode(name, before + data[start:end], line)
    return replace(found, text=text), min(end, len(head))


def _skip_to_header(name: str, data: bytes) -> tuple[bytes, int, Sequence[str]]:
    """What belongs to the header but the line of names, where that begins, after blank
    lines, and the delimiters that it may have.

    Raises DataFault where a line says a delimiter that it cannot have.
    """

    def skip_blank(start: int) -> int:
        end = match_end(MARKS, data, match_end(BLANK_LINES, data, start))
        if end > MAX_BLANK_BYTES:
            raise DataFault(
                f"{name}: begins with over 1 MiB of blank lines: remove them"
            )
        return end

    start = skip_blank(0)
    mark = BYTE_ORDER_MARK if data.startswith(BYTE_ORDER_MARK) else b""
    separator = SEPARATOR_LINE.match(data, start)
    if separator is None:
        return mark, start, DELIMITERS
    delimiter = separator["delimiter"].decode("ascii", "replace")
    if delimiter not in DELIMITERS:
        raise DataFault(
            f"{name}: its first line says that the delimiter is "
            f"{printable(delimiter)!r}: a comma, a semicolon, a tab or a bar is needed"
        )
    return mark + separator[0], skip_blank(separator.end()), [delimiter]


def _require_end(
    name: str, data: bytes, start: int, fields: Fields, delimiter: bytes, known: int
) -> int:
    """Where the header ends. Raises DataFault where a quote is not at its position, or
    a name in quotes spans a line with as many delimiters as a record of the ``known``
    columns has.
    """
    if fields.end is None:
        line = _line_of(data, fields.bad_quote)
        where = f"{name}, line {line}, column {fields.number}"
        if fields.is_open:
            raise DataFault(
                f"{where}: a quote opens in the header that never closes: remove it, "
                "or close it after the name"
            )
        begin = max(data.rfind(delimiter, start, fields.bad_quote) + 1, start)
        value = data[begin:].split(b"\n", 1)[0].split(delimiter, 1)[0]
        raise DataFault(
            f"{where}: a quote is out of place in the header, in "
            f"{printable(_name(name, value, line))}: remove it, or put the whole name "
            "in quotes and double this one"
        )
    line = _line_of(data, start)
    delimiters = min(len(fields.values) - 1, max(known - 1, 1))
    for number, value in enumerate(fields.values, start=1):
        lines = value.split(b"\n")[1:]
        if any(each.count(delimiter) >= delimiters for each in lines):
            raise DataFault(
                f"{name}, line {line}, column {number}: a quote opens in the header "
                f"and closes in line {line + len(lines)}, after whole records: remove "
                "it, or close it after the name"
            )
    if fields.end - start > MAX_HEADER_BYTES:
        raise DataFault(f"{name}, line {line}: the header is longer than 64 KiB")
    return fields.end


def _line_of(data: bytes, position: int) -> int:
    return 1 + data.count(b"\n", 0, position)


def _name(file: str, value: bytes, line: int) -> str:
    return decode(file, value, line).translate(INVISIBLE).strip()


def _folded(name: str) -> str:
    """A name without what does not matter: its case, and spaces for underscores."""
    return "_".join(name.casefold().split())


def _require_known(where: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise DataFault where a known column is missing, or named twice."""
    found = ", ".join(printable(each) or "''" for each in names[:MAX_NAMES])
    found += ", …" if len(names) > MAX_NAMES else ""
    names_of = {
        column: [each for each in names if _folded(each) == _folded(column)]
        for column in known
    }
    missing = [column for column in known if not names_of[column]]
    if len(missing) == len(known):
        raise DataFault(
            f"{where}: names none of the columns {', '.join(known)} "
            f"(found: {found}): is this the right file?"
        )
    for column, same in names_of.items():
        if len(same) > 1:
            raise DataFault(
                f"{where}: names the column {column!r} twice "
                f"({', '.join(map(printable, same))}): leave one of them out"
            )
    if missing:
        raise DataFault(
            f"{where}: lacks the column {missing[0]!r} (found: {found}): "
            "add it to the file"
        )


def _header(
    names: Sequence[str], delimiter: str, known: Sequence[str], data: bytes, end: int
) -> Header:
    """The header with these names, whose records begin at ``end``.

    Empty names at its end are no columns if no record has a value there, or most have
    no such field: then a value in one shows a record with a delimiter too many.
    """
    columns_of = {_folded(column): column for column in known}
    columns = [
        columns_of.get(_folded(each)) or f"column {number}"
        for number, each in enumerate(names, start=1)
    ]
    unknown = [each for each in names if _folded(each) not in columns_of]
    unnamed = len(list(takewhile(lambda each: each == "", reversed(names))))
    named = len(names) - unnamed
    fields, loaded = columns, len(names)
    if unnamed:
        sample = islice(split_records(data, end, delimiter), SAMPLE_RECORDS)
        records = [each for each in sample if named <= len(each) <= len(names)]
        widths = Counter({named: 0})
        widths.update(map(len, records))
        width = widths.most_common(1)[0][0]
        values = [value for record in records for value in record[named:]]
        if width == named or not any(value.strip(NOTHING) for value in values):
            fields, loaded = [*columns[:named], *[""] * unnamed], width
            unknown = unknown[: len(unknown) - unnamed]
    return Header(tuple(columns[:loaded]), delimiter, tuple(unknown), tuple(fields))
