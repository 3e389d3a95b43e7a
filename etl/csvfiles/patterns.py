"""What a CSV record looks like in bytes: regular expressions compiled for one file.

Knows delimiters, quotes and line ends. The patterns of values are given; the database
stores them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

#: In UTF-8. It belongs at the start of a file; where files were concatenated, it
#: appears in the middle of one too.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Ctrl-Z, which ends a text file in DOS.
END_OF_FILE = b"\x1a"

#: What line ends and concatenated files leave before the first quote of a record.
#: See ``repeated``.
LEADING_MARKS = rb"(?:(?>[\r\x1a]|%s))*+" % BYTE_ORDER_MARK

#: Replaces each digit by a zero.
TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")


@dataclass(frozen=True)
class Column:
    """A column of a staging table, as etl.source_columns has it.

    ``pattern`` matches the values that COPY may load unseen; None where any text is
    such a value. ``skeleton`` matches what is left of such a value once every digit is
    a zero, and nothing that another value leaves; None where it matters which digits a
    value has. ``separator`` is the character between the elements of a list.
    """

    name: str
    is_required: bool
    is_text: bool
    pattern: str | None = None
    skeleton: str | None = None
    separator: str | None = None


@dataclass(frozen=True)
class RecordPatterns:
    """Patterns for the bytes of a file, from where a record starts.

    ``regular`` matches all regular records that follow, ``blank`` all lines without a
    value, rows of delimiters among them, and ``record`` one record whatever its values
    are. A quote inside an unquoted field, or after a closing quote, is literal; the
    record then ends at the line end.

    ``unquoted`` is ``regular`` for lines without quotes that have ``delimiters`` each,
    and ``skeleton`` is the same once every digit is a zero; None where a column has no
    skeleton. See ``count_regular``.
    """

    regular: re.Pattern[bytes]
    unquoted: re.Pattern[bytes]
    skeleton: re.Pattern[bytes] | None
    blank: re.Pattern[bytes]
    record: re.Pattern[bytes]
    delimiter: bytes
    delimiters: int

    def count_regular(self, lines: bytes) -> int | None:
        """The number of records if ``lines`` are regular ones without quotes, one a
        line; None if they are not, or it takes ``regular`` to find out.

        With zeros for digits, lines of numbers have few different skeletons: to match
        these costs a quarter of matching every line.
        """
        if b'"' in lines:
            return None
        if self.skeleton:
            skeletons = set(io.BytesIO(lines.translate(TO_ZEROS)))
            if self.skeleton.fullmatch(b"".join(skeletons)):
                return lines.count(b"\n")
        if has_marks(lines) or not self.unquoted.fullmatch(lines):
            return None
        # A text in ``unquoted`` is everything up to the next delimiter, line ends too,
        # which saves a third of the time. Every match has the delimiters of one record,
        # so no text spans a line end if there are as many matches as lines.
        count = lines.count(b"\n")
        return count if lines.count(self.delimiter) == count * self.delimiters else None


def has_marks(data: bytes) -> bool:
    """Whether it holds what may be at the edge of a value without being part of it: a
    carriage return that ends no line, the end of a file, a byte-order mark.
    """
    return (
        END_OF_FILE in data
        or (BYTE_ORDER_MARK[:1] in data and BYTE_ORDER_MARK in data)
        or (b"\r" in data and data.count(b"\r") > data.count(b"\r\n"))
    )


def repeated(body: bytes) -> bytes:
    """A pattern for ``body`` any number of times, without backtracking.

    The group in it is atomic for Python 3.11.4 and older, where a possessive loop
    keeps what its last, failed iteration consumed (gh-106052).
    """
    return rb"(?:(?>%s))*+" % body


def match_end(
    pattern: re.Pattern[bytes], data: bytes, start: int, end: int | None = None
) -> int:
    """Where a match ends that begins at ``start``; ``start`` if there is none."""
    found = pattern.match(data, start, len(data) if end is None else end)
    return found.end() if found else start


def compile_patterns(
    columns: Sequence[Column | None], delimiter: str
) -> RecordPatterns:
    """The patterns of a file with these ``columns``; None is an unknown column.

    Every loop is possessive or atomic, so the time of a match grows with its length
    alone. Raises re.error where a column's pattern is no regular expression.
    """
    ends = re.escape(delimiter).encode()
    spaces = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    within = rb'[^"]*+' + repeated(rb'""[^"]*+')
    quoted_field = rb'%s"%s"[^%s\n]*+' % (spaces, within, ends)
    unquoted_field = rb'(?!%s")[^%s\n]*+' % (spaces, ends)
    field = rb"(?:%s|%s)" % (quoted_field, unquoted_field)
    empty_row = rb'[ \t\r\x1a%s]+|""(?!")|%s' % (ends, BYTE_ORDER_MARK)
    blank = repeated(empty_row) + rb"\n"
    # Nothing and a tab alone are no values, but COPY does not see that in quotes.
    any_text = rb'(?:[^"%s\r\n]*+|%s"(?!\t?")%s"%s|"")' % (ends, spaces, within, spaces)
    texts = [rb"[^%s]*+" % ends] * (len(columns) - 1) + [rb"[^%s\n]*+" % ends]
    regular, unquoted, skeletons = [], [], []
    for column, text in zip(columns, texts, strict=True):
        if column is None or column.pattern is None:
            regular.append(any_text)
            unquoted.append(text)
            continue
        value = _unquoted(column, column.pattern, delimiter, spaces)
        regular.append(rb"(?:%s|%s)" % (value, _quoted(column, column.pattern, spaces)))
        unquoted.append(value)
        if column.skeleton is not None:
            skeletons.append(_unquoted(column, column.skeleton, delimiter, spaces))
    is_keyed = any(each and each.is_required and not each.is_text for each in columns)
    # COPY would load a blank line as a record, and before version 18 ends at ``\.``.
    start = b"" if is_keyed and len(columns) > 1 else rb"(?!\\\.|%s)" % blank

    def line(values: Sequence[bytes]) -> bytes:
        return start + ends.join(values) + rb"\r?+\n"

    has_skeleton = len(skeletons) == len(columns)
    return RecordPatterns(
        regular=re.compile(repeated(line(regular))),
        unquoted=re.compile(repeated(line(unquoted))),
        skeleton=re.compile(repeated(line(skeletons))) if has_skeleton else None,
        blank=re.compile(repeated(blank)),
        record=re.compile(LEADING_MARKS + field + repeated(ends + field) + rb"\n"),
        delimiter=delimiter.encode(),
        delimiters=len(columns) - 1,
    )


def _unquoted(column: Column, pattern: str, delimiter: str, spaces: bytes) -> bytes:
    """A regular value without quotes; what is no key may be empty or a tab alone.

    A text keeps the spaces around it: none may follow the last separator of a list.
    """
    if column.separator == delimiter:  # then no value without quotes contains it
        pattern = pattern.replace(re.escape(delimiter), "(?!)")
    after = b"" if column.is_text else spaces
    value = rb"%s(?>%s)%s" % (spaces, pattern.encode(), after)
    if column.is_required:
        return value
    return rb"(?:%s|%s)" % (value, rb"" if delimiter == "\t" else rb"\t|")


def _quoted(column: Column, pattern: str, spaces: bytes) -> bytes:
    """A regular value in quotes, or nothing in them where that is allowed."""
    after = b"" if column.is_text else spaces
    inside = rb"%s(?>%s)%s" % (spaces, pattern.encode(), after)
    value = rb'%s"(?!%s")%s"%s' % (spaces, spaces, inside, spaces)
    return value if column.is_required else value + rb'|""'
