"""The header line of a CSV file: which columns it names, and under which delimiter."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from etl.errors import DataFault

DELIMITERS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Header:
    """Columns in the file's order, and the delimiter under which they were found.

    ``unknown`` are the names of those that the table lacks; among ``columns`` they are
    ``column 5`` and so on, since a file may well repeat them.
    """

    columns: tuple[str, ...]
    delimiter: str
    unknown: tuple[str, ...] = ()


def recognise_header(name: str, line: str, known: Sequence[str]) -> Header:
    """The columns that a header line names, matched with those ``known`` of the table.

    The delimiter is the one under which most fields are known columns: a check, not a
    guess. Blanks and quotes around names and their capitals do not matter. Raises
    DataFault for a column that is missing or named twice, and lines that do not end.
    """
    if "\r" in re.sub('"[^"]*"', "", line.strip("\r\n")):
        raise DataFault(
            f"{name}: its lines end in a carriage return alone: end them in a newline"
        )
    names = {column.lower(): column for column in known}
    found, delimiter = max(
        ((_fields(line, delimiter), delimiter) for delimiter in DELIMITERS),
        key=lambda header: len(names.keys() & set(header[0])),
    )
    missing = [column for folded, column in names.items() if folded not in found]
    if len(missing) == len(names):
        raise DataFault(
            f"{name}: its first line names none of the columns {', '.join(known)}: "
            "is this the right file?"
        )
    for column in found:
        if column in names and found.count(column) > 1:
            raise DataFault(
                f"{name}: names the column {column!r} twice: leave one of them out"
            )
    if missing:
        raise DataFault(f"{name}: lacks the column {missing[0]!r}: add it to the file")
    return Header(
        columns=tuple(
            names.get(column) or f"column {number}"
            for number, column in enumerate(found, start=1)
        ),
        delimiter=delimiter,
        unknown=tuple(column for column in found if column not in names),
    )


def _fields(line: str, delimiter: str) -> list[str]:
    blanks = " *" if delimiter == "\t" else "[ \t]*"
    before_quote = f'({re.escape(delimiter)}){blanks}(?=")'
    line = re.sub(before_quote, r"\1", line.strip("\r\n"))
    try:
        fields = next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter))
    except csv.Error:
        return []
    return [field.strip().strip('"').strip().lower() for field in fields]
