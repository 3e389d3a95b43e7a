"""CSV files as records that a test edits, and the bytes that are written of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

BYTE_ORDER_MARK = "\ufeff"

DELIMITERS = (",", "\t", ";", "|")

#: Ids are from small ranges, so that keys meet: users, experiments, compounds.
USERS, EXPERIMENTS, COMPOUNDS = range(1, 11), range(1, 31), range(1, 7)

#: More than one of a file's records is appended at a time; no file gets longer.
MAX_RECORDS = {"users": 12, "user_experiments": 30, "compounds": 6}

#: The key is the first column of each.
COLUMNS = {
    "users": ["user_id", "name", "email", "signup_date"],
    "user_experiments": [
        "experiment_id",
        "user_id",
        "experiment_compound_ids",
        "experiment_run_time",
    ],
    "compounds": ["compound_id", "compound_name", "compound_structure"],
}

#: Other ways to write a number, which the fast path leaves to SQL or loads as they are.
SPELLINGS = ("{}", "{}", "{}", "{}", "{}", "+{}", "00{}", "{}.0", " {} ", "{:030d}")

NAMES = ("Ann", "Bo", "Cy", "", " Di ", "Él, E", 'F "F"', "G\nG", "H;H", "I\r\n\r\nI")
DATES = ("2024-02-29", "2023-01-31", "2020-12-01", "", "1999-12-31")
LISTS = ("", "1", "1;2", "2;1", "2;2;3", "4;5;4", "1; 2", ";;3;", "6;6;1", "3;", "7")
TIMES = ("1.5", "10", "", "1e2", ".5")

#: Values that no number, no date and no list of numbers has.
BAD_VALUES = ("x", "soon", "1,5", "2023-02-30", "0x10", "99999999999999999999", "1;x")


@dataclass
class Record:
    """A record, or ``raw`` text that takes the place of one, as the file has it.

    ``good`` is what a bad value replaced.
    """

    values: dict[str, str] = field(default_factory=dict)
    quoted: bool = False
    raw: str | None = None
    good: dict[str, str] | None = None

    @property
    def is_bad(self) -> bool:
        return self.raw is not None or self.good is not None


@dataclass
class CsvFile:
    """A file of the data folder; ``instead`` is its content where it is not records."""

    table: str
    columns: list[str]
    records: list[Record] = field(default_factory=list)
    delimiter: str = ","
    newline: str = "\n"
    is_marked: bool = False
    ends_with_newline: bool = True
    instead: bytes | None = None
    is_missing: bool = False

    @classmethod
    def of(cls, table: str) -> CsvFile:
        return cls(table, list(COLUMNS[table]))

    @property
    def name(self) -> str:
        return f"{self.table}.csv"

    @property
    def key(self) -> str:
        return COLUMNS[self.table][0]

    @property
    def good(self) -> list[Record]:
        return [record for record in self.records if not record.is_bad]

    @property
    def bad(self) -> list[Record]:
        return [record for record in self.records if record.is_bad]

    def ids(self, column: str) -> set[int]:
        """The numbers that a column has in records that are well written."""
        texts = [record.values.get(column, "") for record in self.good]
        return {int(float(text)) for text in texts if text.strip()}

    def text_of(self, record: Record) -> str:
        """The text of a record, without a line end behind it."""
        if record.raw is not None:
            return record.raw
        values = [record.values.get(column, "") for column in self.columns]
        return self.delimiter.join(
            self.quote(value) if record.quoted or self._needs_quotes(value) else value
            for value in values
        )

    def quote(self, value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    def _needs_quotes(self, value: str) -> bool:
        return any(each in value for each in (self.delimiter, '"', "\n", "\r"))

    def content(self) -> bytes | None:
        """The bytes of the file, None where there is none."""
        if self.is_missing:
            return None
        if self.instead is not None:
            return self.instead
        lines = [self.delimiter.join(self.columns)]
        lines += [self.text_of(record) for record in self.records]
        text = self.newline.join(lines) + self.newline * self.ends_with_newline
        return (BYTE_ORDER_MARK * self.is_marked + text).encode()

    def restore_format(self) -> None:
        """Write it as it was first: the records stay."""
        first = CsvFile.of(self.table)
        vars(self).update({**vars(first), "records": self.records})


@dataclass
class Files:
    """The files of a data folder, users who are gone, and the files as they were."""

    tables: dict[str, CsvFile] = field(
        default_factory=lambda: {table: CsvFile.of(table) for table in COLUMNS}
    )
    gone: list[Record] = field(default_factory=list)
    earlier: list[dict[str, CsvFile]] = field(default_factory=list)

    def any(self, rng: Random) -> CsvFile:
        weights = [3, 4, 1]
        return rng.choices([self.tables[table] for table in COLUMNS], weights)[0]

    def keep(self) -> None:
        """Remember the files as they are, for a step that goes back to them."""
        self.earlier = [*self.earlier[-5:], deepcopy(self.tables)]

    def write(self, folder: Path, rng: Random) -> None:
        """Bring a folder up to date: a file is appended to, or written in place, or
        another takes its name; sometimes it keeps the time that it had.
        """
        for file in self.tables.values():
            path, content = folder / file.name, file.content()
            before = path.read_bytes() if path.exists() else None
            if content == before:
                continue
            if content is None:
                path.unlink()
                continue
            times = path.stat() if before is not None else None
            if before and content.startswith(before):
                with path.open("ab") as opened:
                    opened.write(content[len(before) :])
            elif rng.random() < 0.5:
                path.write_bytes(content)
            else:
                replace_file(path, content)
            if times and rng.random() < 0.3:
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace_file(path: Path, content: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)


def new_id(rng: Random, ids: Iterable[int], taken: set[int]) -> int:
    """An id that is not taken, as long as there is one."""
    ids = list(ids)
    return rng.choice([each for each in ids if each not in taken] or ids)


def new_record(rng: Random, files: dict[str, CsvFile], table: str) -> Record:
    """A good record with a new key; an experiment is of a user whom users.csv has."""
    file = files[table]
    taken = file.ids(file.key)
    spelled = rng.choice(SPELLINGS)
    if table == "users":
        number = new_id(rng, USERS, taken)
        values = [rng.choice(NAMES), f"{number}@example.com", rng.choice(DATES)]
    elif table == "compounds":
        number = new_id(rng, COMPOUNDS, taken)
        values = [f"Compound {rng.choice('ABC')}{rng.choice(NAMES)}", "C8H11NO2"]
    else:
        number = new_id(rng, EXPERIMENTS, taken)
        users = sorted(files["users"].ids("user_id")) or [1]
        user = rng.choice(SPELLINGS).format(rng.choice(users))
        values = [user, rng.choice(LISTS), rng.choice(TIMES)]
    names = COLUMNS[table]
    texts = [spelled.format(number), *values]
    return Record(dict(zip(names, texts, strict=True)), quoted=rng.random() < 0.1)


def spoil(rng: Random, file: CsvFile, record: Record) -> str:
    """Make a record bad; what is wrong with it."""
    text = file.text_of(record)
    typed = [each for each in file.columns if each.endswith(("id", "ids", "date"))]
    match rng.choice(["value", "value", "value", "key", "quote", "count", "open"]):
        case "value" if typed:
            record.good, column = dict(record.values), rng.choice(typed)
            record.values[column] = value = rng.choice(BAD_VALUES)
            return f"{column} is {value!r}"
        case "key":
            record.good = dict(record.values)
            record.values[file.key] = ""
            return "without a key"
        case "quote":
            record.raw = text.replace(file.delimiter, f'{file.delimiter}a"b"', 1)
            return "with a quote out of place"
        case "open":
            record.raw = text + file.delimiter + '"open'
            return "with a quote that nothing closes"
        case _:
            record.raw = rng.choice([text + file.delimiter + "more", "1"])
            return "with another number of fields"
