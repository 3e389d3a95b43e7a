"""A record split into its fields: the header, and the first records after it.

All others are matched as bytes, and PostgreSQL parses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from etl.csvfiles.patterns import BYTE_ORDER_MARK, LEADING_MARKS, match_end, repeated

#: Lines that hold nothing under any delimiter, rows of these among them.
BLANK_LINES = re.compile(
    repeated(repeated(rb'[ \t\r\x1a,;|]+|""(?!")|' + BYTE_ORDER_MARK) + rb"\n")
)

MARKS = re.compile(LEADING_MARKS)


@dataclass(frozen=True)
class Fields:
    """The values of a record, without quotes around them, and where its line ends.

    ``end`` is None if the field of this ``number`` has a quote, ``bad_quote``, that may
    not be at its position, or never closes: then it ``is_open``. ``values`` are then
    the first line split at every delimiter: enough to see which delimiter is meant.
    """

    values: list[bytes]
    end: int | None = None
    number: int = 0
    bad_quote: int = -1
    is_open: bool = False


def split_record(data: bytes, start: int, delimiter: str) -> Fields:
    """Split the record that begins at ``start``, as strictly as records are matched.

    A quote opens only at the start of a field, after spaces and tabs, and closes before
    a delimiter or the end of the line. ``data`` ends in a newline.
    """
    ends = re.escape(delimiter).encode()
    spaces = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    quoted = rb'%s"([^"]*+%s)' % (spaces, repeated(rb'""[^"]*+'))
    unquoted = rb'([^"%s\n]*+)' % ends
    field = re.compile(rb'(?:%s"%s\r*+|%s)(?=%s|\n)' % (quoted, spaces, unquoted, ends))
    values: list[bytes] = []
    position = match_end(MARKS, data, start)
    while found := field.match(data, position):
        value = found[2] if found[1] is None else found[1].replace(b'""', b'"')
        values.append(value)
        position = found.end() + 1
        if data[found.end()] == ord("\n"):
            return Fields(values, end=position)
    first_line = data[start : data.index(b"\n", start)].split(delimiter.encode())
    return Fields(
        values=[value.strip(b' \t\r"') for value in first_line],
        number=len(values) + 1,
        bad_quote=data.index(b'"', position),
        is_open=re.compile(quoted + rb"\Z").match(data, position) is not None,
    )


def split_records(data: bytes, start: int, delimiter: str) -> Iterator[list[bytes]]:
    """The values of the records from ``start`` on, without blank lines and records with
    a quote that may not be at its position.
    """
    while (start := match_end(BLANK_LINES, data, start)) < len(data):
        fields = split_record(data, start, delimiter)
        if fields.end is not None:
            yield fields.values
        start = fields.end or data.index(b"\n", start) + 1
