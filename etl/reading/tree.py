"""What a query is made of: fields, items, conditions and terms, and the operators.

The grammar makes them of text, ``expressions.py`` makes SQL of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.reading.catalog import Column

#: Parameters that are conditions, and may come several times.
JUNCTIONS = ("or", "and", "not.or", "not.and")

#: Parameters that are not filters. A filter on a column of such a name is quoted.
RESERVED = (
    *("select", "order", "limit", "offset", "after", "count", "format", "bom", "facet"),
    *JUNCTIONS,
)

#: Operators as SQL, by what they take: a value, a pattern, a range or an array.
COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
PATTERNS = {"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"}
OVERLAPS = {"cs": "@>", "cd": "<@", "ov": "&&", "sl": "<<", "sr": ">>"}
OVERLAPS |= {"nxr": "&<", "nxl": "&>", "adj": "-|-"}
OPERATORS = {**COMPARISONS, **PATTERNS, **OVERLAPS, "isdistinct": "is distinct from"}

#: Those that may have ``(any)`` or ``(all)`` after them, and take an array then.
QUANTIFIABLE = (*(name for name in COMPARISONS if name != "neq"), *PATTERNS)

#: Full text search: what makes a query of the value.
SEARCHES = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}

#: What ``is`` takes instead of a value; the last three only for a boolean.
IS_VALUES = ("null", "not_null", "true", "false", "unknown")

#: Arrows, each with a key or an index, from a column to what is in it.
Path = tuple[tuple[str, str | int], ...]

AGGREGATES = ("sum", "avg", "count", "max", "min")


@dataclass(frozen=True)
class Field:
    """A column, or what is in it at the end of a path."""

    column: Column
    path: Path = ()

    @property
    def type(self) -> str:
        """The type of its values."""
        if not self.path:
            return self.column.type
        if self.path[-1][0] == "->>":
            return "text"
        return "json" if self.column.type == "json" else "jsonb"

    @property
    def is_required(self) -> bool:
        """Whether it is never null."""
        return self.column.is_required and not self.path

    @property
    def name(self) -> str:
        """The last key that is not an index, or the column's name."""
        keys = [key for _, key in self.path if isinstance(key, str)]
        return keys[-1] if keys else self.column.name


@dataclass(frozen=True)
class Item:
    """A value in a row of the answer. An aggregate without a field is of whole rows."""

    name: str
    field: Field | None
    cast: str | None = None
    aggregate: str | None = None
    aggregate_cast: str | None = None


@dataclass(frozen=True)
class Filter:
    """A condition on a field.

    ``modifier`` is ``any`` or ``all``, or the language of a search. The value of ``in``
    is an array as Postgres writes it.
    """

    field: Field
    operator: str
    value: str
    is_negated: bool = False
    modifier: str | None = None


@dataclass(frozen=True)
class Junction:
    """Conditions that all hold (``and``), or one of them (``or``)."""

    operator: str
    conditions: tuple[Filter | Junction, ...]
    is_negated: bool = False


def fields_of(condition: Filter | Junction) -> Iterator[Field]:
    """The fields that a condition names."""
    if isinstance(condition, Filter):
        yield condition.field
        return
    for each in condition.conditions:
        yield from fields_of(each)


@dataclass(frozen=True)
class Term:
    """A field in an order."""

    field: Field
    descending: bool = False
    nulls_first: bool = False
