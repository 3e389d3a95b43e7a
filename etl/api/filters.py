"""How the OpenAPI document describes ``select``, ``order`` and the filters on columns.

The patterns are of the grammar in ``etl/reading/grammar.py``: each matches all that the
service takes, and a little more, which only Postgres can refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from etl.reading.catalog import Column
from etl.reading.grammar import NAME
from etl.reading.tree import (
    AGGREGATES,
    IS_VALUES,
    OPERATORS,
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

_FILTER = "|".join(
    (
        rf"^(not\.)?(({'|'.join(QUANTIFIABLE)})(\((any|all)\))?\.",
        rf"({'|'.join(OPERATORS)})\.",
        rf"({'|'.join(SEARCHES)})(\([\w$ ]+\))?\.",
        r"in\.\s*\([\s\S]*\)\s*$",
        rf"is\.({'|'.join(IS_VALUES)})$)",
    )
)

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


def filter_on(column: Column) -> Schema:
    """The filter on a column, as a parameter that may be repeated."""
    operators = ", ".join((*OPERATORS, *SEARCHES))
    states = ", ".join(f"`is.{state}`" for state in IS_VALUES)
    syntax = (
        f"A filter: {operators}, a dot and a value, as far as {column.type} has them;"
        f" `in.(…,…)`; {states}; `not.` before any"
    )
    return {
        "name": parameter_name(column.name),
        "in": "query",
        "description": ". ".join(filter(None, [column.description, syntax])),
        "schema": {"type": "array", "items": {"type": "string", "pattern": _FILTER}},
    }


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.sub(SYNTAX, r"\\\g<0>", name) for name in names)
