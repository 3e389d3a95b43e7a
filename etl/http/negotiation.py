"""What headers ask of an answer: its format and coding (RFC 9110, section 12), and of
rows, as PostgREST reads it, Prefer (RFC 7240), Range in items and Accept-Profile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from aiohttp import web
from aiohttp.web import ContentCoding

from etl.errors import BadParameter, NotAcceptable, RequestError, truncated
from etl.http.protocol import MAX_HEADER_BYTES
from etl.reading.catalog import Catalog
from etl.reading.exports import MEDIA_TYPES, VENDOR_TYPES
from etl.reading.query import Preferences

#: Headers that are cached with their meaning: clients repeat them.
CACHED_HEADERS = 128

FORMATS = (*MEDIA_TYPES, *VENDOR_TYPES)

#: Preferences that say how rows are read, and their values. Of each the first counts.
OF_READING = {
    "count": re.compile("exact|planned|estimated"),
    "handling": re.compile("strict|lenient"),
    "timezone": re.compile(r"[\w/+:-]{1,64}", re.ASCII),
}

#: Preferences of PostgREST that say how rows are written, and nothing of reading them.
OF_WRITING = re.compile(
    "return=(representation|minimal|headers-only)|missing=(default|null)"
    "|resolution=(merge|ignore)-duplicates|tx=(commit|rollback)|max-affected=.*"
)

#: What else there is: the page for people.
KINDS = {**MEDIA_TYPES, **VENDOR_TYPES, "html": "text/html"}

#: More than RFC 9110 allows, since clients send it: `.2` (Java), or more digits.
_WEIGHT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,99})?|\.[0-9]{1,99}")

_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?")

#: A quoted string, up to the end of the header where nothing else ends it. If that did
#: not match, each quote in it would be tried next: half a second for 8 KB.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')


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


def preferences_of(request: web.Request) -> Preferences:
    """What the headers ask of rows. Range is for GET alone.

    Raises BadParameter for what is not understood where ``handling=strict`` is
    preferred, and 431 for headers Prefer that are longer together than one may be: they
    are cached.
    """
    headers = request.headers
    prefer = ",".join(headers.getall("Prefer", ()))
    if len(prefer) > MAX_HEADER_BYTES:
        raise RequestError(f"Prefer is longer than {MAX_HEADER_BYTES} bytes", 431)
    return _read_preferences(
        prefer,
        headers.get("Accept", ""),
        headers.get("Range") if request.method == "GET" else None,
        headers.get("Range-Unit", "items"),
    )


@lru_cache(CACHED_HEADERS)
def _read_preferences(
    prefer: str, accept: str, rows: str | None, unit: str
) -> Preferences:
    found: dict[str, str] = {}
    unknown = []
    for each in filter(None, map(str.strip, prefer.split(","))):
        name, _, value = each.partition("=")
        if name in OF_READING and OF_READING[name].fullmatch(value):
            found.setdefault(name, value)
        elif not OF_WRITING.fullmatch(each):
            unknown.append(each)
    is_strict = found.get("handling") == "strict"
    if unknown and is_strict:
        raise BadParameter(
            f"Prefer: these are not understood: {truncated(', '.join(unknown))}",
            code="PGRST122",
            message="Invalid preferences given with handling=strict",
            details=f"Invalid preferences: {', '.join(unknown)}",
        )
    form, items = choose_format(accept, FORMATS), _RANGE.fullmatch(rows or "")
    if items is None or unit != "items":
        items = None  # of bytes, as download managers ask
        if rows is not None and is_strict:
            raise BadParameter(
                "Range is of items, such as 0-24, with Range-Unit: items or without"
                f" it; not {truncated(rows)}",
                code="PGRST122",
            )
    first_and_last = items and (int(items[1]), int(items[2]) if items[2] else None)
    applied = ", ".join(f"{each}={found[each]}" for each in OF_READING if each in found)
    return Preferences(
        form, found.get("count"), first_and_last, found.get("timezone"), applied
    )


def content_range(first: int, rows: int | None, total: int | None) -> str | None:
    """The header Content-Range, None if no number of rows is known."""
    if rows is None and total is None:
        return None
    shown = f"{first}-{first + rows - 1}" if rows and total != 0 else "*"
    return f"{shown}/{'*' if total is None else total}"


def check_profile(request: web.Request, catalog: Catalog) -> None:
    """406 if Accept-Profile names another schema than that of the table."""
    profile = request.headers.get("Accept-Profile", catalog.schema)
    if profile != catalog.schema:
        raise NotAcceptable(
            f"Accept-Profile: features is in the schema {catalog.schema}, not in"
            f" {truncated(profile)}",
            code="PGRST106",
            message=f"Invalid schema: {profile}",
            hint=f"Only the following schemas are exposed: {catalog.schema}",
        )


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
