"""How blocks and records are sent to Postgres: the statement, and the arrays.

Knows how a file is written, and nothing of what is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from etl.csvfiles.blocks import CsvRecord
from etl.csvfiles.headers import Header


def as_arrays(records: Sequence[CsvRecord]) -> tuple[str, str]:
    """The texts of records and their lines, as Postgres writes text[] and bigint[].

    Psycopg would dump 20,000 of them in 47 ms, and holds up all other threads then.
    """
    texts = "\0".join(record.text for record in records)  # which no text holds
    texts = texts.replace("\\", r"\\").replace('"', r"\"").replace("\0", '","')
    lines = ",".join(str(record.line) for record in records)
    return f'{{"{texts}"}}', f"{{{lines}}}"


def copy_statement(
    table: sql.Identifier, header: Header, *, quotes: bool = True
) -> sql.Composed:
    """COPY into a table; an empty value is null, in quotes or not.

    So is a tab alone, the blank that follows each comma in some files: it stands for
    the column's default, and staging has none. Without ``quotes`` the data may hold
    neither these nor backslashes: then COPY's text form reads them alike, in a seventh
    less time.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, header.columns))
    default = sql.SQL("" if header.delimiter == "\t" else "default e'\\t', ")
    form = sql.SQL(
        "format csv, force_null ({names})" if quotes else "format text, null ''"
    )
    return sql.SQL(
        "copy {table} ({names}) from stdin with ({form}, delimiter {delimiter}, "
        "{default}encoding 'UTF8')"
    ).format(
        table=table,
        names=names,
        form=form.format(names=names),
        delimiter=sql.Literal(header.delimiter),
        default=default,
    )
