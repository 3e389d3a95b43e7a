"""Accept and Accept-Encoding, as real clients send them."""

from __future__ import annotations

import pytest
from aiohttp.web import ContentCoding

from etl.http.negotiation import choose_coding, choose_format

FORMATS = ("json", "csv", "ndjson")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        # HttpURLConnection of older Java, and of newer
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "json"),
        ("text/html, image/gif, image/jpeg, */*; q=0.2", "json"),
        ("*", "json"),
        ("*;q=.2, text/csv;q=.1", "json"),
        ("*;q=.1, text/csv;q=.2", "csv"),
        ("*;q=0, text/csv", "csv"),
        ("*/*;q=0.8", "json"),
        ("text/csv, */*;q=0.5000", "csv"),
        ("text/csv;q=0.50001, */*;q=0.5", "csv"),
        ("text/csv; q = 0.9 , application/json ; q= 0.1", "csv"),
        ("text/csv;Q=0.1,application/json;Q=0.9", "json"),
        ("text/csv;q=1.5, application/json;q=0.9", "csv"),
        ("text/csv;header=present, application/json;q=0.9", "csv"),
        ('application/json;profile="a,b;q=0", text/csv;q=0.5', "json"),
        ("text/csv;q=low, application/json;q=0.1", "json"),
        ("application/json, text/plain, */*", "json"),
        ("application/x-ndjson", "ndjson"),
        ("", "json"),
        (",", "json"),
        ("text/html", None),
        ("*/*;q=0", None),
        ("*;q=.0", None),
        ("application/json;q=0", None),
    ],
)
def test_formats(accept: str, chosen: str | None) -> None:
    assert choose_format(accept, FORMATS) == chosen


def test_a_long_header_is_read_once() -> None:
    """One that is read again from each of its quotes would take hours."""
    assert choose_format('text/csv, "' + '\\"' * 1_000_000, FORMATS) == "csv"
    assert choose_coding('gzip, "' + '\\"' * 1_000_000) == ContentCoding.gzip


@pytest.mark.parametrize(
    ("accept_encoding", "chosen"),
    [
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=.2, deflate;q=.3", "deflate"),
        ("gzip; q=1.000, identity; q = 0.5", "gzip"),
        ("*;q=.1", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
    ],
)
def test_codings(accept_encoding: str, chosen: str | None) -> None:
    assert choose_coding(accept_encoding) == (chosen and ContentCoding(chosen))
