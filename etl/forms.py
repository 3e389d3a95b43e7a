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

    ``plain`` takes all plain records that follow, ``record`` one record whatever its
    values are, ``fields`` all of its fields that end in a delimiter, ``open_quote`` the
    start of a field up to where its quote may still close. A quote that opens in
    mid-field is no quote, and neither is one after a closing quote: the record ends
    with its line. ``frame`` is what a line of a plain record is without the bytes
    ``between``, or None where that tells nothing.
    """

    plain: re.Pattern[bytes]
    record: re.Pattern[bytes]
    fields: re.Pattern[bytes]
    open_quote: re.Pattern[bytes]
    frame: re.Pattern[bytes] | None
    between: bytes

    @property
    def may_hide(self) -> bool:
        """Whether ``count_plain`` may be wrong about a list of numbers.

        A tab between two digits, and more of them than a number has, go unseen then:
        the build refuses them.
        """
        return self.frame is not None and self.between != DIGITS

    def count_plain(self, lines: bytes) -> int | None:
        """How many lines these are where all are plain records, seen without matching
        each; None where that cannot be seen.

        Taking the digits out leaves a few different lines, most often one. It costs
        0.7 ns a byte, or 4 where they differ, and matching each record 14. COPY sees
        where digits are wrong, but in lists: see ``may_hide``.
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


def forms_of(columns: Sequence[Column | None], delimiter: str) -> Forms:
    """The forms of a file with these ``columns``; None stands for an unknown one.

    Every loop is possessive or atomic, so a match takes time in step with its length.
    Raises re.error where the plain form of a column is no regular expression.
    """
    ends = re.escape(delimiter).encode()
    blanks = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    quoted = blanks + rb'"[^"]*+(?:""[^"]*+)*+'
    closed = quoted + rb'"'
    unquoted = rb"(?!" + blanks + rb'")[^%s\n]*+' % ends
    field = rb"(?:%s[^%s\n]*+|%s)" % (closed, ends, unquoted)
    record = rb"%s(?:%s%s)*+\n" % (field, ends, field)
    # nothing and a tab alone are no values, but COPY would not see that in quotes
    something = rb'%s"(?!\t?")[^"]*+(?:""[^"]*+)*+"%s' % (blanks, blanks)
    any_text = rb'(?:[^"%s\r\n]*+|%s|"")' % (ends, something)
    no_value = rb'""|' if delimiter == "\t" else rb'""|\t|'
    plain = ends.join(
        any_text
        if column is None or column.plain is None
        else _plain(column, column.plain, delimiter, blanks, no_value)
        for column in columns
    )
    if len(columns) == 1:
        # COPY would take a blank line for a record, and before 18 end at this mark
        plain = rb"(?!\\\.|[ \t\r]*+\n)" + plain
    frame = None
    framed = [column for column in columns if column and column.frame is not None]
    separators = "".join(column.separator or "" for column in framed)
    if len(framed) == len(columns) > 1 and delimiter not in separators:
        frame = ends.join(
            blanks + (column.frame or "").encode() + blanks for column in framed
        )
    return Forms(
        plain=re.compile(rb"(?:%s\r?+\n)*+" % plain),
        record=re.compile(record),
        fields=re.compile(rb"(?:%s%s)*+" % (field, ends)),
        open_quote=re.compile(quoted),
        frame=re.compile(rb"%s\r?\n" % frame) if frame is not None else None,
        between=DIGITS + separators.encode(),
    )


def _plain(
    column: Column, form: str, delimiter: str, blanks: bytes, no_value: bytes
) -> bytes:
    inside = rb"%s(?>%s)%s" % (blanks, form.encode(), blanks)
    if column.separator == delimiter:  # then it stands in no value without quotes
        form = form.replace(delimiter, "(?!)")
    value = rb"%s(?>%s)%s" % (blanks, form.encode(), blanks)
    quoted = rb'%s"(?!%s")%s"%s' % (blanks, blanks, inside, blanks)
    if column.is_required:
        return rb"(?:%s|%s)" % (value, quoted)
    if column.is_text:
        return rb'(?:%s|%s|"")' % (value, quoted)
    return rb"(?:%s|%s|%s)" % (value, quoted, no_value)
