"""Steps that change how CSV files are written, their columns, or a file as a whole."""

from __future__ import annotations

from copy import deepcopy
from random import Random

from tests.support.csvfiles import (
    COLUMNS,
    DELIMITERS,
    LISTS,
    NAMES,
    Files,
    Record,
    new_record,
)
from tests.support.edits import Edit


def rearrange_columns(files: Files, rng: Random) -> str:
    file = files.any(rng)
    rng.shuffle(file.columns)
    return f"columns of {file.name}: {', '.join(file.columns)}"


def set_delimiter(files: Files, rng: Random) -> str:
    file = files.any(rng)
    file.delimiter = rng.choice(DELIMITERS)
    return f"delimiter of {file.name}: {file.delimiter!r}"


def set_line_ends(files: Files, rng: Random) -> str:
    file = files.any(rng)
    file.newline = "\n" if file.newline == "\r\n" else "\r\n"
    return f"line ends of {file.name}: {file.newline!r}"


def set_mark(files: Files, rng: Random) -> str:
    file = files.any(rng)
    file.is_marked = not file.is_marked
    return f"byte-order mark of {file.name}: {file.is_marked}"


def add_blank_lines(files: Files, rng: Random) -> str:
    file = files.any(rng)
    where = rng.choice([0, len(file.records), rng.randint(0, len(file.records))])
    blank = rng.choice(["", " \t", file.delimiter * (len(file.columns) - 1)])
    file.records.insert(where, Record(raw=blank))
    return f"blank line {blank!r} in {file.name} at {where}"


def change_columns(files: Files, rng: Random) -> str:
    """An unknown column comes or goes; seldom one that the table has."""
    file = files.any(rng)
    if rng.random() < 0.2:
        column = rng.choice(COLUMNS[file.table])
    else:
        column = rng.choice(["note", "added"])
    if column in file.columns:
        file.columns.remove(column)
        return f"{file.name} without the column {column}"
    file.columns.insert(rng.randint(0, len(file.columns)), column)
    for record in file.records:
        if record.raw is None:
            record.values.setdefault(column, rng.choice(NAMES))
    return f"{file.name} with the column {column}"


def add_long_value(files: Files, rng: Random) -> str:
    file = files.any(rng)
    column = {"users": "name", "compounds": "compound_name"}.get(file.table)
    record = new_record(rng, files.tables, file.table)
    if column is None:
        column, value = "experiment_compound_ids", ";".join(rng.choices(LISTS[1:4]))
    else:
        value = "\n".join(rng.choices(["one", 'a "two"', "", "x, y;z|"], k=4))
    record.values[column], record.quoted = value, True
    file.records.insert(rng.randint(0, len(file.records)), record)
    return f"a quoted value over several lines in {file.name}"


def empty(files: Files, rng: Random) -> str:
    file = files.any(rng)
    match rng.choice(["records", "records", "bytes", "file", "text"]):
        case "records":
            file.records.clear()
        case "bytes":
            file.instead = b""
        case "file":
            file.is_missing = True
        case _:
            file.instead = b"no, such, header\n1,2,3\n"
    return f"empty {file.name}: {file.content()!r}"


def go_back(files: Files, rng: Random) -> str:
    if not files.earlier:
        return "go back to nothing"
    where = rng.randrange(len(files.earlier))
    steps = len(files.earlier) - where
    if rng.random() < 0.5:
        files.tables = deepcopy(files.earlier[where])
        return f"all files as {steps} steps ago"
    table = files.any(rng).table
    files.tables[table] = deepcopy(files.earlier[where][table])
    return f"{table}.csv as {steps} steps ago"


#: The edits, and how frequent each is.
FORMAT_EDITS: dict[Edit, int] = {
    rearrange_columns: 1,
    set_delimiter: 2,
    set_line_ends: 1,
    set_mark: 1,
    add_blank_lines: 2,
    change_columns: 2,
    add_long_value: 2,
    empty: 1,
    go_back: 4,
}
