"""Queries: how many fields one may have, and which are kept for the next request."""

from __future__ import annotations

import gc
import weakref

import pytest

from etl.errors import BadParameter
from etl.reading import statements
from etl.reading.catalog import Catalog, Column
from etl.reading.facets import read_facets
from etl.reading.query import MAX_CACHED, MAX_FIELDS, Preferences, Query, read_query

CATALOG = Catalog(
    (Column("id", "bigint", True, 1, None, "bigint"),),
    "digest",
    "public",
)
DEFAULTS = Preferences()


def read(name: str, text: str) -> Query:
    return read_query(((name, text),), CATALOG, DEFAULTS)


def repeated(piece: str, times: int) -> str:
    return ",".join(piece.format(number) for number in range(times))


@pytest.mark.parametrize(
    ("name", "before", "piece", "after"),
    [
        ("select", "", "a{}:id", ""),
        ("select", "", "a{}:id->b", ""),
        ("order", "", "id->{}", ""),
        ("or", "(", "id.eq.{}", ")"),
        ("and", "(or(", "id.eq.{}", "))"),
        ("facet", "", "id->k{}", ""),
    ],
)
def test_a_query_has_no_more_fields_than_postgres_has_in_a_list(
    name: str, before: str, piece: str, after: str
) -> None:
    def parse(times: int) -> None:
        parameters = ((name, before + repeated(piece, times) + after),)
        parse = read_facets if name == "facet" else read_query
        parse(parameters, CATALOG, DEFAULTS)

    # The key is appended to an order, and a step of a path counts as a field does.
    most = MAX_FIELDS // (2 if "->" in piece else 1) - (name == "order")
    parse(most)
    with pytest.raises(BadParameter, match=f"may have {MAX_FIELDS} fields and arrows"):
        parse(most + 1)


def test_filters_are_counted_together() -> None:
    filters = (("id", "gt.1"),) * MAX_FIELDS
    read_query(filters, CATALOG, DEFAULTS)
    with pytest.raises(BadParameter, match="the filters may have"):
        read_query((*filters, ("or", "(id.eq.1)")), CATALOG, DEFAULTS)


def test_short_queries_are_cached() -> None:
    assert read("id", "in.(1,2)") is read("id", "in.(1,2)")


def test_nothing_keeps_a_long_query() -> None:
    """A few hundred of the longest would take a gigabyte."""
    query = read("id", f"in.({repeated('{}', MAX_CACHED)})")
    statements.page(query, None, 10, with_rows=True)
    statements.rows_by_key(query)
    kept = weakref.ref(query)
    del query
    gc.collect()
    assert kept() is None
