"""What a request asks of ``/features``: its query string, and its headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from itertools import chain
from typing import TypeVar, TypeVarTuple

from etl.errors import BadParameter, NotAcceptable, RangeNotSatisfiable, truncated
from etl.reading.catalog import Catalog
from etl.reading.exports import MEDIA_TYPES
from etl.reading.grammar import parse_filter, parse_junction, parse_order, parse_select
from etl.reading.scanner import is_text
from etl.reading.tree import (
    JUNCTIONS,
    RESERVED,
    Field,
    Filter,
    Item,
    Junction,
    Term,
    fields_of,
)

#: Parsed queries that are cached, since clients repeat them, and the characters of one
#: that is. A longer one would take megabytes.
CACHED_QUERIES, MAX_CACHED = 256, 2048

#: Fields, with the steps of their paths, of ``select``, of ``order`` and of all
#: conditions: as many as Postgres has in a list. A URL has room for four times as many,
#: which would take Python and Postgres half a second.
MAX_FIELDS = 1664

#: Rows of a page that is made as one text; more are streamed, so that memory is flat.
#: Also up to how many rows an estimate counts.
MAX_PAGE_ROWS = 1000

#: Words that Postgres takes for times, by its clock.
CLOCK = re.compile(r"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)

#: Lists whose parts may come in several parameters.
LISTS = ("select", "order")


#: The names and texts of a query string.
Parameters = tuple[tuple[str, str], ...]

S = TypeVar("S", bound="Query | Parameters")
Others = TypeVarTuple("Others")
T = TypeVar("T")


@dataclass(frozen=True)
class Preferences:
    """What the headers of a request ask for.

    ``form`` is a format of MEDIA_TYPES or VENDOR_TYPES, None if there is none that
    the request accepts; ``count`` is exact, planned or estimated; ``range`` are the
    first row and the last one, from 0, None where it is open; ``timezone`` is that of
    timestamps in the answer; ``applied`` is the header Preference-Applied.
    """

    form: str | None = "json"
    count: str | None = None
    range: tuple[int, int | None] | None = None
    timezone: str | None = None
    applied: str = ""


@dataclass(frozen=True, eq=False)
class Query:
    """What a client asks for, but for the cursor, in which pages of a list differ.

    Compared by identity, since it is cached.

    ``order`` ends in the primary key, so that no two rows are equal in it, except
    where rows are grouped. ``is_short`` says that it is cached, ``reads_clock`` that
    the same query may have another answer later, of the same rows. ``rows_digest``
    identifies conditions and order, ``digest`` the whole query.
    """

    catalog: Catalog
    items: tuple[Item, ...]
    conditions: tuple[Filter | Junction, ...]
    order: tuple[Term, ...]
    limit: int | None
    offset: int
    count: str | None
    asked: Preferences
    format: str
    has_bom: bool
    is_short: bool
    reads_clock: bool
    rows_digest: str
    digest: str

    @property
    def most_rows(self) -> int:
        """The limit, or how many rows show that there are too many for a page."""
        return MAX_PAGE_ROWS if self.limit is None else self.limit

    @property
    def is_single(self) -> bool:
        """Whether the answer is one object."""
        return self.format.startswith("object")

    @property
    def strips_nulls(self) -> bool:
        """Whether members that are null are left out."""
        return self.format.endswith("stripped")

    @cached_property
    def is_grouped(self) -> bool:
        """Whether rows of the answer are groups of rows."""
        return any(item.aggregate for item in self.items)

    @cached_property
    def has_casts(self) -> bool:
        """Whether a value of one row may be refused, and with it the whole answer."""
        return any(item.cast for item in self.items)

    @property
    def has_cursor(self) -> bool:
        """Whether a cursor says where the next page starts: not in a list by offset."""
        return bool(self.catalog.key) and not self.is_grouped and not self.offset


def is_short(of: Query | Parameters) -> bool:
    """Whether what is made of it is cached."""
    if isinstance(of, Query):
        return of.is_short
    return sum(map(len, chain.from_iterable(of))) <= MAX_CACHED


def cached_if_short(make: Callable[[S, *Others], T]) -> Callable[[S, *Others], T]:
    """Caches what a function makes of short queries, or of their parameters."""
    cached = lru_cache(CACHED_QUERIES)(make)

    @wraps(make)
    def call(of: S, /, *others: *Others) -> T:
        return (cached if is_short(of) else make)(of, *others)

    return call


@cached_if_short
def read_query(parameters: Parameters, catalog: Catalog, asked: Preferences) -> Query:
    """Parse all parameters but ``after``.

    Raises BadParameter, RangeNotSatisfiable, and NotAcceptable if there is no format.
    """
    given, others = _split(parameters)
    form = _format(given.get("format"), asked.form)
    items = parse_select(catalog, given.get("select", "*"))
    order = parse_order(catalog, given["order"]) if "order" in given else ()
    if not any(item.aggregate for item in items):
        ordered = {term.field for term in order}
        key = map(Field, catalog.key)
        order += tuple(Term(field) for field in key if field not in ordered)
    conditions = tuple(
        parse_junction(catalog, name, text)
        if name in JUNCTIONS
        else parse_filter(catalog, name, text)
        for name, text in others
    )
    require_few("select", [item.field for item in items if item.field])
    require_few("order", [term.field for term in order])
    require_few("the filters", [it for each in conditions for it in fields_of(each)])
    first, limit = _range(given.get("limit"), given.get("offset"), asked.range)
    counts = _flag(given, "count")
    return Query(
        catalog=catalog,
        items=items,
        conditions=conditions,
        order=order,
        limit=limit,
        offset=first,
        count=asked.count or ("exact" if counts else None),
        asked=asked,
        format=form,
        has_bom=_flag(given, "bom") and form == "csv",
        is_short=is_short(parameters),
        reads_clock=any(CLOCK.search(f"{name}={text}") for name, text in parameters),
        rows_digest=digest(
            tuple(others), given.get("order"), tuple(term.field.name for term in order)
        ),
        digest=digest(parameters, asked),
    )


@cached_if_short
def read_select(parameters: Parameters, catalog: Catalog) -> Query:
    """A query of a single row, for which ``select`` is the only parameter."""
    for name, _ in parameters:
        if name != "select":
            raise BadParameter(
                f"unknown parameter {truncated(name)}; allowed: select (and filters on"
                " /features)"
            )
    query = read_query(parameters, catalog, Preferences())
    if query.is_grouped:
        raise BadParameter("select: an aggregate is of several rows: use /features")
    return query


def digest(*parts: Hashable) -> str:
    """Identifies what these parts say, also in another process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def require_few(what: str, fields: Sequence[Field]) -> None:
    """Raises BadParameter for more than MAX_FIELDS."""
    size = sum(1 + len(field.path) for field in fields)
    if size > MAX_FIELDS:
        raise BadParameter(
            f"{what} may have {MAX_FIELDS} fields and arrows, not {size}: for many"
            " values of one column there is in.(…)"
        )


def _split(
    parameters: Iterable[tuple[str, str]],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The reserved parameters, and the conditions."""
    given: dict[str, str] = {}
    others = []
    for name, text in parameters:
        if not is_text(name + text):
            raise BadParameter(
                f"parameter {truncated(name)} has a NUL or half of a character in it"
            )
        if name not in RESERVED or name in JUNCTIONS:
            others.append((name, text))
        elif name in LISTS and name in given:
            given[name] += f",{text}"
        elif name in given:
            raise BadParameter(f"parameter {name!r} is given more than once")
        else:
            given[name] = text
    return given, others


def _format(given: str | None, accepted: str | None) -> str:
    """The format of the answer: the parameter's, else what the request accepts."""
    if given is not None and given not in MEDIA_TYPES:
        allowed = ", ".join(MEDIA_TYPES)
        raise BadParameter(f"format is one of {allowed}, not {truncated(given)}")
    form = given or accepted
    if form is None:
        raise NotAcceptable(f"features come as {', '.join(MEDIA_TYPES.values())}")
    return form


def _flag(given: dict[str, str], name: str) -> bool:
    value = given.get(name, "false")
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false, not {truncated(value)}")
    return value == "true"


def _range(
    limit: str | None, offset: str | None, rows: tuple[int, int | None] | None
) -> tuple[int, int | None]:
    """The first row, and how many, or None: limit and offset within a Range header."""
    first, most = max(_number("offset", offset) or 0, 0), _number("limit", limit)
    if most is not None and most < 0:
        raise RangeNotSatisfiable("Limit should be greater than or equal to zero.")
    if rows is None or most == 0:
        return first, most
    start, end = rows
    ends = [each for each in (end, most and first + most - 1) if each is not None]
    first = max(first, start)
    if ends and min(ends) < first:
        raise RangeNotSatisfiable(
            "The lower boundary must be lower than or equal to the upper boundary in"
            " the Range header."
        )
    return first, min(ends) - first + 1 if ends else None


def _number(name: str, text: str | None) -> int | None:
    if text is None or re.fullmatch("-?[0-9]{1,18}", text):
        return int(text) if text else None
    raise BadParameter(f"{name} is a whole number, not {truncated(text)}")
