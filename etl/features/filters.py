"""Filters of ``/features``, one at a time: ``<column>=<operator>.<value>``.

In the conventions of PostgREST, and held against the catalog. Knows no database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from etl.features.catalog import Catalog, Column
from etl.http.parameters import shown
from etl.http.problems import BadParameter

#: Parameters that are no filters. A column of such a name is written in quotes.
RESERVED = ("select", "order", "limit", "after", "count", "format")

#: What stands before the dot of a filter, and the operator that it means.
COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
PATTERNS = {"like": "like", "ilike": "ilike"}
OPERATORS = (*COMPARISONS, *PATTERNS, "in", "is")

#: What ``is`` asks; all but the first two only of a boolean column.
STATES = {
    "null": "null",
    "not_null": "not null",
    "true": "true",
    "false": "false",
    "unknown": "unknown",
}

_ELEMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^",]*', re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """One condition without its values, of which there are ``count``."""

    column: Column
    operator: str
    negated: bool
    state: str | None
    count: int


@dataclass(frozen=True)
class Value:
    """A value to be cast to ``type``, and the parameter that it came in."""

    text: str
    type: str
    source: str


def find_column(catalog: Catalog, name: str, where: str) -> Column:
    """The column that ``name`` names, which may stand in quotes."""
    plain = _unquoted(name) if re.fullmatch(_ELEMENT, name) else name
    if plain in catalog.by_name:
        return catalog.by_name[plain]
    raise BadParameter(
        f"{where}: there is no column {shown(plain)}; allowed: {catalog.names}"
    )


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def split_list(text: str) -> list[str] | None:
    """The elements between commas, quotes left on; None where they cannot be told."""
    found, place = [], 0
    while match := _ELEMENT.match(text, place):
        found.append(match[0])
        place = match.end() + 1
        if match.end() == len(text):
            return found
        if text[match.end()] != ",":
            return None
    return None


def parse_filter(
    catalog: Catalog, name: str, text: str
) -> tuple[Filter, Sequence[Value]]:
    """One condition: ``<column>=<operator>.<value>``, ``not.`` before it or not."""
    if not name.startswith('"') and name not in catalog.by_name:
        allowed = ", ".join(RESERVED)
        raise BadParameter(
            f"unknown parameter {shown(name)}; allowed: {allowed}, and the columns"
            f" {catalog.names}"
        )
    column = find_column(catalog, name, "filter")
    negated = text.startswith("not.")
    operator, dot, value = text.removeprefix("not.").partition(".")
    if not dot or operator not in OPERATORS:
        raise BadParameter(
            f"{column.name} is asked as operator.value, not {shown(text)}; operators:"
            f" {', '.join(OPERATORS)}, each with not. before it or without"
        )
    state = None
    if operator == "is":
        state, values = _state(column, value), []
    elif operator == "in":
        values = _elements(column, value)
    else:
        values = [_pattern(column, value) if operator in PATTERNS else value]
    source = f"{column.name}={operator}"
    kind = "text" if operator in PATTERNS else column.value_type
    return Filter(column, operator, negated, state, len(values)), [
        Value(each, kind, source) for each in values
    ]


def _state(column: Column, text: str) -> str:
    allowed = list(STATES) if column.type == "boolean" else list(STATES)[:2]
    if text.lower() in allowed:
        return STATES[text.lower()]
    raise BadParameter(
        f"{column.name}=is takes {', '.join(allowed)}, not {shown(text)}"
    )


def _elements(column: Column, text: str) -> list[str]:
    if text == "()":
        return []
    found = split_list(text[1:-1]) if re.fullmatch(r"(?s)\(.*\)", text) else None
    if found is None:
        raise BadParameter(
            f"{column.name}=in takes a list such as (a,b): a value with a comma or"
            f' a quote in it stands in ", with \\ before " and \\; not'
            f" {shown(text)}"
        )
    return [_unquoted(each) for each in found]


def _pattern(column: Column, text: str) -> str:
    """A pattern of LIKE; as in PostgREST, ``*`` is another way to write ``%``."""
    if not column.is_text:
        raise BadParameter(
            f"{column.name} is {column.type}, and like and ilike take text; allowed:"
            f" {', '.join([*COMPARISONS, 'in', 'is'])}"
        )
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise BadParameter(
            f"{column.name}: a pattern may not end in a lone backslash: {shown(text)}"
        )
    return text.replace("*", "%")
