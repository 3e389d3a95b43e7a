"""Which of several formats and codings a request accepts (RFC 9110, section 12).

Knows the headers' grammar and the formats that there are; knows no rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from aiohttp.web import ContentCoding

from etl.reading.exports import MEDIA_TYPES, VENDOR_TYPES

#: Headers that are cached with their meaning: clients repeat them.
CACHED_HEADERS = 128

#: What else there is: the page for people.
KINDS = {**MEDIA_TYPES, **VENDOR_TYPES, "html": "text/html"}

#: More than RFC 9110 allows, since clients send it: `.2` (Java), or more digits.
_WEIGHT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}")

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


@lru_cache(CACHED_HEADERS)
def choose_format(accept: str, formats: Sequence[str]) -> str | None:
    """The format that an Accept header prefers, None if it accepts none of them."""
    weights = _weights(accept)
    if not weights:
        return formats[0]

    def weight(form: str) -> tuple[float, int]:
        """Its weight; and of equal ones the first in the header is the greatest."""
        kind = KINDS[form]
        # HttpURLConnection of older Java sends `*`, and means `*/*`.
        names = (kind, f"{kind.split('/')[0]}/*", "*/*", "*")
        found = next((name for name in names if name in weights), None)
        return (weights[found], -list(weights).index(found)) if found else (0.0, 0)

    best = max(formats, key=weight)
    return best if weight(best)[0] > 0 else None


@lru_cache(CACHED_HEADERS)
def choose_coding(accept_encoding: str) -> ContentCoding | None:
    """The coding that an Accept-Encoding header prefers, None for no coding."""
    weights = _weights(accept_encoding)

    def weight(coding: ContentCoding) -> float:
        names = (coding.value, f"x-{coding.value}", "*")
        return next((weights[name] for name in names if name in weights), 0.0)

    best = max(ContentCoding.gzip, ContentCoding.deflate, key=weight)
    accepted = weight(best) > 0 and weight(best) >= weights.get("identity", 0.0)
    return best if accepted else None


def _weights(header: str) -> dict[str, float]:
    """What a header names, with its weights; malformed parts are ignored."""
    weights: dict[str, float] = {}
    for part in _QUOTED.sub("", header.lower()).split(","):
        name, *rest = (word.strip() for word in part.split(";"))
        named = (parameter.partition("=") for parameter in rest)
        parameters = {each[0].strip(): each[2].strip() for each in named}
        weight = parameters.get("q", "1")
        if name.startswith("application/vnd.pgrst."):
            name = f"{name.removesuffix('+json')}+json"
            if parameters.get("nulls") == "stripped":
                name += ";nulls=stripped"
            elif name == "application/vnd.pgrst.array+json":
                name = MEDIA_TYPES["json"]
        if name and _WEIGHT.fullmatch(weight):
            weights[name] = max(min(float(weight), 1.0), weights.get(name, 0.0))
    return weights
