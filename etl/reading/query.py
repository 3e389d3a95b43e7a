"""The query string of ``/features``, in the conventions of PostgREST.

Names are looked up in the catalog. Whether a value has its column's type, and what a
cursor points to, is for the statements.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from etl.errors import BadParameter, NotAcceptable, truncated
from etl.reading.catalog import Catalog, Column
from etl.reading.exports import MEDIA_TYPES

#: Parsed queries that are cached: clients repeat them.
CACHED_QUERIES = 256

#: Parameters that are not filters. A filter on a column of such a name is quoted.
RESERVED = ("select", "order", "limit", "after", "count", "format")

#: The operators of filters as SQL.
COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
PATTERNS = {"like": "like", "ilike": "ilike"}
OPERATORS = {**COMPARISONS, **PATTERNS, "in": "= any", "is": "is"}

#: What ``is`` takes instead of a value; the last three only for a boolean column.
IS_VALUES = ("null", "not_null", "true", "false", "unknown")

#: A list of elements between commas; an element is text of which parts may be quoted.
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ELEMENT = rf'(?:{_QUOTED}|[^",])*'
_LIST = re.compile(f"{_ELEMENT}(?:,{_ELEMENT})*", re.DOTALL)
_SPLIT = re.compile(rf"(?:\A|,)({_ELEMENT})", re.DOTALL)

#: A column in ``order``, its direction and the position of its nulls.
_TERM = re.compile(r"\A(.*?)(\.asc|\.desc)?(\.nullsfirst|\.nullslast)?\Z", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """A condition on a column; the value is to be cast to ``type``.

    The value of ``in`` is an array as Postgres writes it.
    """

    column: Column
    operator: str
    negated: bool
    value: str
    type: str


@dataclass(frozen=True)
class Term:
    """A column in an order."""

    column: Column
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, eq=False)
class Query:
    """What a client asks for, but for the cursor, in which pages of a list differ.

    ``order`` ends in the primary key, so that no two rows are equal in it.
    ``rows_digest`` identifies filters and order, ``digest`` the whole query.
    """

    columns: tuple[Column, ...]
    filters: tuple[Filter, ...]
    order: tuple[Term, ...]
    limit: int | None
    count: bool
    format: str
    rows_digest: str
    digest: str


@lru_cache(CACHED_QUERIES)
def read_query(
    catalog: Catalog, parameters: tuple[tuple[str, str], ...], accepted: str | None
) -> Query:
    """Parse all parameters but ``after``; ``accepted`` is the format if none is given.

    Raises BadParameter, and NotAcceptable if there is no format at all.
    """
    given, others = _split(parameters, RESERVED)
    order = _order(catalog, given.get("order"))
    count = given.get("count", "false")
    if count not in ("true", "false"):
        raise BadParameter(f"count is true or false, not {truncated(count)}")
    form = given.get("format", accepted)
    if form is None:
        raise NotAcceptable(f"features come as {', '.join(MEDIA_TYPES.values())}")
    if form not in MEDIA_TYPES:
        allowed = ", ".join(MEDIA_TYPES)
        raise BadParameter(f"format is one of {allowed}, not {truncated(form)}")
    return Query(
        columns=_select(catalog, given.get("select")),
        filters=tuple(_filter(catalog, name, text) for name, text in others),
        order=order,
        limit=_limit(given.get("limit")),
        count=count == "true",
        format=form,
        rows_digest=digest(
            others,
            [(term.column.name, term.descending, term.nulls_first) for term in order],
        ),
        digest=digest(parameters, form),
    )


def read_select(
    catalog: Catalog, parameters: Iterable[tuple[str, str]]
) -> tuple[Column, ...]:
    """The columns of a single row, for which ``select`` is the only parameter."""
    given, others = _split(parameters, ("select",))
    for name, _ in others:
        raise BadParameter(
            f"unknown parameter {truncated(name)}; allowed: select (and filters on"
            " /features)"
        )
    return _select(catalog, given.get("select"))


def digest(*parts: object) -> str:
    """Identifies what these parts say, also in another process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def is_text(value: str) -> bool:
    """Whether Postgres can store it: it has no NUL and no half of a character."""
    return "\0" not in value and not re.search("[\ud800-\udfff]", value)


def _split(
    parameters: Iterable[tuple[str, str]], reserved: tuple[str, ...]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The reserved parameters, and the others."""
    given: dict[str, str] = {}
    others = []
    for name, text in parameters:
        if not is_text(name + text):
            raise BadParameter(
                f"parameter {truncated(name)} has a NUL or half of a character in it"
            )
        if name not in reserved:
            others.append((name, text))
        elif name in given:
            raise BadParameter(f"parameter {name!r} is given more than once")
        else:
            given[name] = text
    return given, others


def _limit(text: str | None) -> int | None:
    if text is None or re.fullmatch("[0-9]{1,9}", text):
        return int(text) if text else None
    raise BadParameter(
        f"limit is a whole number from 0 to 999999999, not {truncated(text)}"
    )


def _select(catalog: Catalog, text: str | None) -> tuple[Column, ...]:
    if text is None or text == "*":
        return catalog.columns
    columns: list[Column] = []
    for name in _elements("select", "a,b", text, text):
        column = _column(catalog, name, "select")
        if column in columns:
            raise BadParameter(f"select names the column {column.name!r} twice")
        columns.append(column)
    return tuple(columns)


def _order(catalog: Catalog, text: str | None) -> tuple[Term, ...]:
    terms: dict[Column, Term] = {}
    example = "a,b.desc.nullslast"
    elements = _elements("order", example, text, text) if text is not None else []
    for element in elements:
        ((name, direction, nulls),) = _TERM.findall(element)
        column = _column(catalog, name, "order")
        if column in terms:
            raise BadParameter(f"order names the column {column.name!r} twice")
        descending = direction == ".desc"
        nulls_first = nulls == ".nullsfirst" if nulls else descending
        terms[column] = Term(column, descending, nulls_first)
    for column in catalog.key:
        terms.setdefault(column, Term(column))
    return tuple(terms.values())


def _filter(catalog: Catalog, name: str, text: str) -> Filter:
    """One filter: ``<column>=<operator>.<value>``, or ``not.`` and these."""
    if not name.startswith('"') and name not in catalog.by_name:
        raise BadParameter(
            f"unknown parameter {truncated(name)}; allowed: {', '.join(RESERVED)}, and"
            f" the columns {catalog.names}"
        )
    column = _column(catalog, name, "filter")
    negated = text.startswith("not.")
    operator, dot, value = text.removeprefix("not.").partition(".")
    if not dot or operator not in OPERATORS:
        raise BadParameter(
            f"a filter on {column.name} is operator.value, not {truncated(text)};"
            f" operators: {', '.join(OPERATORS)}, each also after not."
        )
    kind = column.value_type
    if operator == "is":
        value = _is_value(column, value)
    elif operator == "in":
        value, kind = _array(column, value), f"{kind}[]"
    elif operator in PATTERNS:
        value, kind = _pattern(column, value), "text"
    return Filter(column, operator, negated, value, kind)


def _is_value(column: Column, text: str) -> str:
    allowed = IS_VALUES if column.type == "boolean" else IS_VALUES[:2]
    if text.lower() in allowed:
        return text.lower()
    raise BadParameter(
        f"{column.name}=is takes {', '.join(allowed)}, not {truncated(text)}"
    )


def _array(column: Column, text: str) -> str:
    """The list of ``in``, as Postgres writes an array."""
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else None
    name = f"{column.name}=in"
    elements = _elements(name, "(a,b)", text, inner) if text != "()" else []
    quoted = (re.sub(r'(["\\])', r"\\\1", _unquoted(each)) for each in elements)
    return "{{{}}}".format(",".join(f'"{each}"' for each in quoted))


def _pattern(column: Column, text: str) -> str:
    """A pattern of LIKE; as in PostgREST, ``*`` is another way to write ``%``."""
    if not column.is_text:
        raise BadParameter(
            f"{column.name} is {column.type}, and like and ilike take text; allowed:"
            f" {', '.join([*COMPARISONS, 'in', 'is'])}"
        )
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise BadParameter(
            f"{column.name}: a pattern must not end in a lone backslash:"
            f" {truncated(text)}"
        )
    return text.replace("*", "%")


def _elements(name: str, example: str, sent: str, inner: str | None) -> list[str]:
    """The elements of the list ``inner``, with their quotes; None is not a list."""
    if inner is None or not _LIST.fullmatch(inner):
        raise BadParameter(
            f"{name} takes a list such as {example}: quote a value with a comma or a"
            f' quote in it as "…", with \\ before " and \\; not {truncated(sent)}'
        )
    return _SPLIT.findall(inner)


def _unquoted(element: str) -> str:
    if re.fullmatch(_QUOTED, element, re.DOTALL):
        return re.sub(r"\\(.)", r"\1", element[1:-1], flags=re.DOTALL)
    return element


def _column(catalog: Catalog, name: str, where: str) -> Column:
    """The column that ``name`` names, which may be quoted."""
    name = _unquoted(name)
    if name in catalog.by_name:
        return catalog.by_name[name]
    raise BadParameter(
        f"{where}: there is no column {truncated(name)}; allowed: {catalog.names}"
    )
