"""What a record looks like in bytes: regular expressions made for one file.

Knows delimiters, quotes and line ends. What the values of a column look like is given;
it stands in the database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Taken out of lines, to see their frame.
DIGITS = b"0123456789"

#: In UTF-8. It belongs to the start of a file, and gets into the middle of one where
#: files are put together.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Ctrl-Z, which ends a text file in DOS.
END_OF_FILE = b"\x1a"

#: What line ends and files that were put together leave before the first quote of a
#: record. See ``repeated``.
LEADING_MARKS = rb"(?:(?>[\r\x1a]|%s))*+" % BYTE_ORDER_MARK


@dataclass(frozen=True)
class Column:
    """A column of a staging table, as etl.source_columns has it.

    ``plain`` is what values look like that COPY may take unseen, or None; ``frame`` is
    what is left of them without digits and ``separator``, or None.
    """

    name: str
    is_required: bool
    is_text: bool
    plain: str | None = None
    frame: str | None = None
    separator: str | None = None


@dataclass(frozen=True)
class Forms:
    """Matches for the bytes of a file, from where a record starts.

    ``plain`` takes all plain records that follow, ``blank`` all lines without a value,
    rows of delimiters among them, ``record`` one record whatever its values are,
    ``fields`` all of its fields that end in a delimiter, ``open_quote`` the
    start of a field up to where its quote may still close. A quote that opens in
    mid-field is no quote, and neither is one after a closing quote: the record ends
    with its line. ``unquoted`` is ``plain`` for lines without quotes, each of which has
    its ``delimiters``: see ``count_plain``. ``frame`` is what a line of a plain record
    is without the bytes ``between``, or None where that tells nothing.
    """

    plain: re.Pattern[bytes]
    unquoted: re.Pattern[bytes]
    blank: re.Pattern[bytes]
    record: re.Pattern[bytes]
    fields: re.Pattern[bytes]
    open_quote: re.Pattern[bytes]
    frame: re.Pattern[bytes] | None
    between: bytes
    delimiter: bytes
    delimiters: int

    @property
    def may_hide(self) -> bool:
        """Whether ``count_plain`` may be wrong about a list of numbers.

        A tab between two digits, and more of them than a number has, go unseen then:
        the build refuses them.
        """
        return self.frame is not None and self.between != DIGITS

    def count_plain(self, lines: bytes) -> int | None:
        """How many lines these are where all are plain records, seen without matching
        each with all that it may be; None where that cannot be seen.
        """
        count = self._count_framed(lines)
        return self._count_unquoted(lines) if count is None else count

    def _count_framed(self, lines: bytes) -> int | None:
        """Taking the digits out leaves a few different lines, most often one.

        It costs 0.7 ns a byte, or 4 where they differ, and to match each record 14.
        COPY sees where digits are wrong, but in lists: see ``may_hide``.
        """
        if self.frame is None or b" " in lines:
            return None
        left = lines.translate(None, self.between)
        first = left[: left.find(b"\n") + 1]
        count = len(left) // (len(first) or 1)
        if left == first * count:
            different = {first}
        else:
            different = set(left.splitlines(keepends=True))
            count = left.count(b"\n")
        return count if all(map(self.frame.fullmatch, different)) else None

    def _count_unquoted(self, lines: bytes) -> int | None:
        """Text is whatever stands before the next delimiter, line ends included: that
        takes two thirds of the time of ``plain``.

        Every match has the delimiters of one record. So where all lines together have
        as many as one record a line would, no text went over a line end.
        """
        if b'"' in lines or has_marks(lines):
            return None
        if not self.unquoted.fullmatch(lines):
            return None
        count = lines.count(b"\n")
        found = lines.count(self.delimiter)
        return count if found == count * self.delimiters else None


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
    """An expression for ``body`` as often as it comes, none given back.

    The group in it is atomic for Python 3.11.4 and older, where a loop that gives
    nothing back keeps what its last turn took, the one that failed (gh-106052).
    """
    return rb"(?:(?>%s))*+" % body


def forms_of(columns: Sequence[Column | None], delimiter: str) -> Forms:
    """The forms of a file with these ``columns``; None stands for an unknown one.

    Every loop is possessive or atomic, so a match takes time in step with its length.
    Raises re.error where the plain form of a column is no regular expression.
    """
    ends = re.escape(delimiter).encode()
    blanks = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    within = rb'[^"]*+' + repeated(rb'""[^"]*+')
    quoted = blanks + rb'"' + within
    closed = quoted + rb'"'
    without = rb"(?!" + blanks + rb'")[^%s\n]*+' % ends
    field = rb"(?:%s[^%s\n]*+|%s)" % (closed, ends, without)
    record = LEADING_MARKS + field + repeated(ends + field) + rb"\n"
    # nothing and a tab alone are no values, but COPY would not see that in quotes
    something = rb'%s"(?!\t?")%s"%s' % (blanks, within, blanks)
    any_text = rb'(?:[^"%s\r\n]*+|%s|"")' % (ends, something)
    texts = [rb"[^%s]*+" % ends] * (len(columns) - 1) + [rb"[^%s\n]*+" % ends]
    values, unquoted_values = [], []
    for column, text in zip(columns, texts, strict=True):
        if column is None or column.plain is None:
            values.append(any_text)
            unquoted_values.append(text)
        else:
            value = _unquoted(column, column.plain, delimiter, blanks)
            quoted_value = _quoted(column, column.plain, blanks)
            values.append(rb"(?:%s|%s)" % (value, quoted_value))
            unquoted_values.append(value)
    plain, unquoted = ends.join(values), ends.join(unquoted_values)
    row = rb'[ \t\r\x1a%s]+|""(?!")|%s' % (ends, BYTE_ORDER_MARK)
    blank = repeated(row) + rb"\n"
    is_keyed = any(each and each.is_required and not each.is_text for each in columns)
    if not is_keyed or len(columns) == 1:
        # COPY would take a blank line for a record, and before 18 end at this mark
        no_record = rb"(?!\\\.|%s)" % blank
        plain, unquoted = no_record + plain, no_record + unquoted
    frame = None
    framed = [column for column in columns if column and column.frame is not None]
    separators = "".join(column.separator or "" for column in framed)
    if is_keyed and len(framed) == len(columns) > 1 and delimiter not in separators:
        frame = ends.join(
            blanks + (column.frame or "").encode() + blanks for column in framed
        )
    return Forms(
        plain=re.compile(repeated(plain + rb"\r?+\n")),
        unquoted=re.compile(repeated(unquoted + rb"\r?+\n")),
        blank=re.compile(repeated(blank)),
        record=re.compile(record),
        fields=re.compile(LEADING_MARKS + repeated(field + ends)),
        open_quote=re.compile(quoted),
        frame=re.compile(rb"%s\r?\n" % frame) if frame is not None else None,
        between=DIGITS + separators.encode(),
        delimiter=delimiter.encode(),
        delimiters=len(columns) - 1,
    )


def _unquoted(column: Column, form: str, delimiter: str, blanks: bytes) -> bytes:
    """A plain value of this form without quotes."""
    if column.separator == delimiter:  # then it stands in no value without quotes
        form = form.replace(delimiter, "(?!)")
    value = rb"%s(?>%s)%s" % (blanks, form.encode(), blanks)
    if column.is_required or column.is_text:
        return value
    return rb"(?:%s|%s)" % (value, rb"" if delimiter == "\t" else rb"\t|")


def _quoted(column: Column, form: str, blanks: bytes) -> bytes:
    """A plain value of this form in quotes, or nothing in them where that may be."""
    inside = rb"%s(?>%s)%s" % (blanks, form.encode(), blanks)
    value = rb'%s"(?!%s")%s"%s' % (blanks, blanks, inside, blanks)
    return value if column.is_required else value + rb'|""'
