"""A record taken apart into its fields: for the header, and the first records below it.

All others are matched as bytes, and taken apart by Postgres.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from etl.csvfiles.forms import repeated


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
    position = start
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
