"""How the OpenAPI document describes ``select``, ``order`` and the filters on columns.

The patterns are of the grammar in ``etl/reading/grammar.py``: each matches all that the
service takes, and a little more, which only Postgres can refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from etl.reading.catalog import Column
from etl.reading.grammar import NAME
from etl.reading.tree import (
    AGGREGATES,
    COMPARISONS,
    IS_VALUES,
    OVERLAPS,
    PATTERNS,
    QUANTIFIABLE,
    RESERVED,
    SEARCHES,
)

Schema = dict[str, Any]

#: What may follow a column: a part of JSON, a cast, and an aggregate.
_PATH = r"\s*(->.+)?"
_CAST = r"(::[\w$ ]+)?"
_AGGREGATE = rf"(\.({'|'.join(AGGREGATES)})\(\){_CAST})?"

_ROWS = rf"count(\(\))?{_CAST}"
_DIRECTION = r"(\.(asc|desc))?(\.(nullsfirst|nullslast))?"

#: Characters of a pattern (ECMA 262) that need a backslash to mean themselves.
SYNTAX = re.compile(r"[\\^$.*+?()\[\]{}|/]")


def parameter_name(name: str) -> str:
    """A column's name as in a query string: in quotes where it needs them."""
    if name in RESERVED or name.strip() != name or not NAME.fullmatch(name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return f'"{escaped}"'
    return name


def select_item(names: Sequence[str]) -> Schema:
    """A value in ``select``: one of these names, or what is made of one."""
    value = rf"({_any_of(names)}){_PATH}{_CAST}{_AGGREGATE}"
    pattern = rf"^\s*(\*|([^:]+:)?\s*({_ROWS}|{value}))\s*$"
    choices = [{"type": "string", "enum": [*names]}]
    return {"anyOf": [*choices, {"type": "string", "pattern": pattern}]}


def order_pattern(names: Sequence[str]) -> str:
    """The pattern of a term in ``order``."""
    return rf"^\s*({_any_of(names)}){_PATH}{_DIRECTION}\s*$"


def filter_on(column: Column, *, has_operators: bool) -> Schema:
    """The filter on a column, as a parameter that may be repeated.

    ``has_operators`` says that its type may have operators beside those that compare.
    """
    operators = [*COMPARISONS, "isdistinct"]
    if column.is_text or has_operators:
        operators += [*PATTERNS, *(() if column.is_text else OVERLAPS)]
    searches = list(SEARCHES) if column.is_text or has_operators else []
    states = list(IS_VALUES) if column.type == "boolean" else list(IS_VALUES)[:2]
    tests = ", ".join(f"`is.{state}`" for state in states)
    syntax = (
        f"A filter: {', '.join([*operators, *searches])}, a dot and a value of type"
        f" {column.type}; `in.(…,…)`; {tests}; `not.` before any"
    )
    quantifiable = "|".join(name for name in operators if name in QUANTIFIABLE)
    others = "|".join(name for name in operators if name not in QUANTIFIABLE)
    forms = [
        rf"({quantifiable})(\((any|all)\))?\.",
        rf"({others})\.",
        *([rf"({'|'.join(searches)})(\([\w$ ]+\))?\."] if searches else []),
        r"in\.\s*\([\s\S]*\)\s*$",
        rf"is\.({'|'.join(states)})$",
    ]
    pattern = rf"^(not\.)?({'|'.join(forms)})"
    return {
        "name": parameter_name(column.name),
        "in": "query",
        "description": ". ".join(filter(None, [column.description, syntax])),
        "schema": {"type": "array", "items": {"type": "string", "pattern": pattern}},
    }


def distinct(filters: Iterable[Schema], names: Iterable[str]) -> Iterator[Schema]:
    """The filters that generators of clients can tell apart, and from other parameters.

    One that makes ``limit`` of ``"limit"`` too would leave out /features altogether.
    """
    taken = {_identifier(name) for name in names}
    for each in filters:
        identifier = _identifier(each["name"])
        if identifier not in taken:
            taken.add(identifier)
            yield each


def _identifier(name: str) -> str:
    """What generators make of a name: ``a_b`` of ``a.b``, ``A B`` and ``aB``."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[\W_]+", "_", words).strip("_").lower()


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.sub(SYNTAX, r"\\\g<0>", name) for name in names)
