"""What a SQL file of a pipeline depends on: the tables that it reads and writes, and
whether its result depends on the clock or on chance.

Looks for names and words, but parses no statement. Where the text leaves a doubt, the
answer is the one that runs a file once too often.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache, lru_cache

from etl.sqlfiles import HEADER, SqlFile

#: Comments, literals and names in quotes. Bodies in dollar quotes are code here.
LEXICAL = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'"
    r'|"(?P<name>(?:[^"]|"")*)"|(?<![\w$])\$(?P<tag>\w*)\$(?P<body>.*?)\$(?P=tag)\$',
    re.DOTALL,
)

#: A comment that begins in another one.
NESTED = re.compile(r"/\*(?:(?!\*/).)*/\*", re.DOTALL)

#: A literal that date and time types read from the clock, as ``today 12:00 UTC``.
MOMENT = re.compile(
    r"e?'[\s\d:.+-]*(?:now|today|tomorrow|yesterday)\b[^']{0,20}'", re.I
)

#: The clock, chance, and counters that no run sets back.
VOLATILE = re.compile(
    r"\b(?:current_(?:date|time|timestamp)|localtime|localtimestamp|tablesample"
    r"|(?:now|(?:clock|statement|transaction)_timestamp|timeofday|age"
    r"|random|random_normal|setseed|gen_random_\w+|uuid\w*|array_(?:shuffle|sample)"
    r"|nextval|currval|lastval|txid_current\w*|pg_current_(?:xact_id|snapshot)\w*)"
    r"\s*\()"
)

#: Functions of the engine, and what they read.
FUNCTIONS = {"etl.allows_empty": "etl.runs", "etl.rejected_records": "etl.rejects"}

#: A name that may have a schema; one that is inserted into; all that are written to.
NAME = r"[\w$]+(?:\s*\.\s*[\w$]+)?"
INSERTED = re.compile(rf"\binsert\s+into\s+{NAME}")
WRITTEN = re.compile(
    r"\b(?:insert\s+into|merge\s+into|delete\s+from|update|truncate(?:\s+table)?"
    r"|create\s+(?:\w+\s+)?table(?:\s+if\s+not\s+exists)?)\s+(?:only\s+)?"
    rf"({NAME}(?:[\s*]*,\s*{NAME})*)"
)

#: What follows ``for update`` and ``do update``, and is no table.
NO_TABLES = {"set", "of", "nowait", "skip"}

#: The value of a header line that lists tables.
TABLES = re.compile(rf"(?:{NAME}(?:\s*,\s*{NAME})*)?")


def reads(file: SqlFile, tables: Collection[str]) -> frozenset[str] | None:
    """The tables whose change makes the file run again: those that ``-- reads:`` lists,
    and those of ``tables`` that the text names. None means any table: the header has
    no such line, or one that is no list.

    ``tables`` are called as ``staging.<source>``, and without a schema in ``public``. A
    name that only follows ``insert into`` is not read.
    """
    declared = _declared(file, "reads")
    if declared is None:
        return None
    code = _code(file.text)
    if "conflict" not in code:  # what that does depends on the rows that are there
        code = INSERTED.sub("insert", code)
    called = {FUNCTIONS[name] for name in _named(code, frozenset(FUNCTIONS))}
    return declared | called | _named(code, frozenset(tables))


def writes(file: SqlFile) -> frozenset[str] | None:
    """The tables that ``-- writes:`` lists, and those that the text inserts into,
    updates, deletes from, merges into, truncates or creates. None means any table:
    there are none of both, or the header line is no list.
    """
    targets = _written(_code(file.text))
    if file.header.get("writes") is None:
        return targets or None
    declared = _declared(file, "writes")
    return None if declared is None else declared | targets


def is_volatile(file: SqlFile) -> bool:
    """Whether the file has to run every time: it says ``-- runs: always``, or uses the
    clock or chance.
    """
    always = file.header.get("runs") == "always"
    return always or VOLATILE.search(_code(file.text)) is not None


def calls(file: SqlFile, functions: frozenset[str]) -> bool:
    """Whether the text calls one of the functions."""
    code = _code(file.text)
    return any(
        re.search(rf"{_spelled(name)}\s*\(", code) for name in _named(code, functions)
    )


def _declared(file: SqlFile, name: str) -> frozenset[str] | None:
    """The tables that the header lists in its lines of this name; None where there is
    none, or one is no list, as a sentence would be.
    """
    lists = [found[2] for found in HEADER.finditer(file.text) if found[1] == name]
    if not lists or not all(map(TABLES.fullmatch, lists)):
        return None
    return frozenset(table for each in lists for table in _listed(each))


def _listed(names: str) -> list[str]:
    """The tables of a list, without the schema public."""
    tables = [re.sub(r"[\s*]", "", name) for name in names.split(",")]
    return [table.removeprefix("public.") for table in tables if table]


# Files seldom change, and each run asks all of this of each: answers are kept. Tables
# of others may come and go at any time, so answers about them are kept up to a bound.

#: Answers about tables, a few for each file: more than a pipeline has need of.
MAX_NAMED = 1 << 8


@cache
def _written(code: str) -> frozenset[str]:
    """The tables that code writes to."""
    found = WRITTEN.findall(code)
    return frozenset(table for each in found for table in _listed(each)) - NO_TABLES


@lru_cache(MAX_NAMED)
def _named(code: str, tables: frozenset[str]) -> frozenset[str]:
    """Those of the tables, or functions, that code names."""
    return frozenset(
        table
        for table in tables
        if table.rpartition(".")[2].lower() in code and _names(code, table)
    )


def _names(code: str, table: str) -> bool:
    """Whether code names a table, and not only a column of it or an alias; in another
    schema, that is another table.
    """
    before = r"(?<![\w$])" if "." in table else r"(?:(?<![\w$.])|\bpublic\s*\.\s*)"
    named = rf"(?<!\bas ){before}{_spelled(table)}(?![\w$]|\s*\.)"
    return re.search(named, code) is not None


def _spelled(name: str) -> str:
    """The pattern of a name, which may have spaces around the point in it."""
    return r"\s*\.\s*".join(map(re.escape, name.lower().split(".")))


@cache
def _code(text: str) -> str:
    """A text in lower case without comments, literals and quotes, its spaces single."""

    def replaced(found: re.Match[str]) -> str:
        if found["name"] is not None:
            return found["name"]
        if found["body"] is not None:
            return f" {_code(found['body'])} "
        if found[0].startswith(("--", "/*")):
            return " "
        return " current_date " if MOMENT.fullmatch(found[0]) else " '' "

    if NESTED.search(text):  # comments in comments: only whole lines surely are
        code = re.sub(r"--[^\n]*", " ", text)
    else:
        code = LEXICAL.sub(replaced, text)
    return re.sub(r"\s+", " ", code).lower()
