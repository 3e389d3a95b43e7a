"""What of several forms a request's headers ask for (RFC 9110, section 12).

Knows the headers' grammar and the forms that there are; knows no rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

#: Headers that are kept with what they mean: clients repeat themselves.
KEPT_HEADERS = 128

#: Names of forms, the first the one for who asks for nothing.
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}

#: What else is made: the page for people.
KINDS = {**MEDIA_TYPES, "html": "text/html"}

#: The same as answers name them.
CONTENT_TYPES = {**MEDIA_TYPES, "csv": "text/csv; charset=utf-8"}

#: Content codings that are made, the first where several are asked for alike.
CODINGS = ("gzip", "deflate")

#: More than RFC 9110 allows, since clients send it: `.2` (Java), or more digits.
_WEIGHT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}")

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


@lru_cache(KEPT_HEADERS)
def choose_format(accept: str, formats: Sequence[str]) -> str | None:
    """The one of ``formats`` that an Accept header asks for most; None if for none."""
    weights = _weights(accept)
    if not weights:
        return formats[0]
    best, chosen = 0.0, None
    for form in formats:
        kind = KINDS[form]
        # HttpURLConnection of older Java sends `*`, and means `*/*`.
        ranges = (kind, f"{kind.split('/')[0]}/*", "*/*", "*")
        weight = next((weights[each] for each in ranges if each in weights), 0.0)
        if weight > best:
            best, chosen = weight, form
    return chosen


@lru_cache(KEPT_HEADERS)
def choose_coding(accept_encoding: str) -> str | None:
    """The coding that an Accept-Encoding header asks for; None for none at all."""
    weights = _weights(accept_encoding)
    weight = _weight_of(weights, "gzip"), _weight_of(weights, "deflate")
    if max(weight) <= 0 or weights.get("identity", 0.0) > max(weight):
        return None
    return CODINGS[weight.index(max(weight))]


def _weight_of(weights: Mapping[str, float], coding: str) -> float:
    """Of ``x-gzip`` as of ``gzip``, and of any coding where ``*`` is named."""
    names = (coding, f"x-{coding}", "*")
    return next((weights[name] for name in names if name in weights), 0.0)


def _weights(header: str) -> dict[str, float]:
    """What a header names with its weights; what is malformed counts as not there."""
    weights: dict[str, float] = {}
    for part in _QUOTED.sub("", header.lower()).split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        named = (parameter.partition("=") for parameter in parameters)
        weight = next(
            (each[2].strip() for each in named if each[0].strip() == "q"), "1"
        )
        if name and _WEIGHT.fullmatch(weight):
            weights[name] = max(min(float(weight), 1.0), weights.get(name, 0.0))
    return weights
