"""A record taken apart into its fields: for the header, and the first records below it.

All others are matched as bytes, and taken apart by Postgres.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from etl.csvfiles.forms import BYTE_ORDER_MARK, END_OF_FILE, LEADING_MARKS, repeated

#: Records that are read to see whether an unnamed column has values.
SAMPLE_RECORDS = 100

#: Lines that hold nothing under any delimiter, rows of these among them.
BLANK_LINES = re.compile(
    repeated(repeated(rb'[ \t\r\x1a,;|]+|""(?!")|' + BYTE_ORDER_MARK) + rb"\n")
)

MARKS = re.compile(LEADING_MARKS)

#: What a field without a value may hold.
NOTHING = b" \t\r\n" + END_OF_FILE + BYTE_ORDER_MARK


@dataclass(frozen=True)
class Fields:
    """A record in its fields, without quotes around them.

    ``end`` is after its line end, None where the bytes end before. ``stray`` and
    ``opened`` are where a quote is that may not be there, and one that never closes.
    """

    values: list[bytes]
    end: int | None = None
    stray: int | None = None
    opened: int | None = None


def split_record(data: bytes, start: int, delimiter: str) -> Fields:
    """Take the record apart that begins there, as strictly as records are matched.

    A quote opens only at the start of a field, blanks before it aside, and closes
    before a delimiter or the end of the line.
    """
    ends = re.escape(delimiter).encode()
    blanks = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    quoted = re.compile(blanks + rb'"([^"]*+' + repeated(rb'""[^"]*+') + rb')(")?+')
    after = re.compile(blanks + rb"\r*+(?=%s|\n|\Z)" % ends)
    unquoted = re.compile(rb'[^"%s\n]*+' % ends)
    values: list[bytes] = []
    marks = MARKS.match(data, start)
    position = marks.end() if marks else start
    while True:
        if value := quoted.match(data, position):
            quote = data.index(b'"', position)
            if value[2] is None:
                return Fields(values, opened=quote)
            closed = after.match(data, value.end())
            if closed is None:
                return Fields(values, stray=quote)
            values.append(value[1].replace(b'""', b'"'))
            position = closed.end()
        else:
            value = unquoted.match(data, position)
            position = value.end() if value else position
            if data[position : position + 1] == b'"':
                return Fields(values, stray=position)
            values.append(value[0] if value else b"")
        if position >= len(data):
            return Fields(values)
        if data[position : position + 1] == b"\n":
            return Fields(values, end=position + 1)
        position += 1


def width_without_values(records: bytes, delimiter: str, widths: range) -> int | None:
    """How many fields most of the first records have, of the ``widths`` that they may
    have; None where most have more than the first of these, and one has a value there.

    Where most have no such field, a value in one shows a record with a delimiter too
    many, and no column.
    """
    counts = Counter({widths.start: 0})
    has_values = False
    position = 0
    for _ in range(SAMPLE_RECORDS):
        blank = BLANK_LINES.match(records, position)
        position = blank.end() if blank else position
        found = split_record(records, position, delimiter)
        if len(found.values) in widths and found.stray is None:
            counts[len(found.values)] += 1
            more = found.values[widths.start :]
            has_values = has_values or any(value.strip(NOTHING) for value in more)
        position = found.end or records.find(b"\n", position) + 1
        if position == 0:
            break
    width = counts.most_common(1)[0][0]
    return None if has_values and width > widths.start else width
