"""What headers ask of rows: Prefer (RFC 7240), Range in items, Accept-Profile.

As PostgREST reads them (Preferences, Pagination and Count, Schemas).
"""

from __future__ import annotations

import re

from aiohttp import web

from etl.errors import BadParameter, NotAcceptable, truncated
from etl.http.negotiation import choose_format
from etl.reading.catalog import Catalog
from etl.reading.exports import MEDIA_TYPES, VENDOR_TYPES
from etl.reading.query import Preferences

FORMATS = (*MEDIA_TYPES, *VENDOR_TYPES)

#: Preferences that say how rows are read, and their values. Of each the first counts.
OF_READING = {
    "count": re.compile("exact|planned|estimated"),
    "handling": re.compile("strict|lenient"),
    "timezone": re.compile(r"[\w/+:-]{1,64}", re.ASCII),
}

#: Preferences of PostgREST that say how rows are written, and nothing of reading them.
OF_WRITING = re.compile("(return|missing|resolution|tx|max-affected)=.+")

_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?")


def preferences_of(request: web.Request) -> Preferences:
    """What the headers ask for.

    Raises BadParameter for what is not understood where ``handling=strict`` is
    preferred.
    """
    preferred = ",".join(request.headers.getall("Prefer", ())).split(",")
    found: dict[str, str] = {}
    unknown = []
    for each in filter(None, map(str.strip, preferred)):
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
    form = choose_format(request.headers.get("Accept", ""), FORMATS)
    rows = _range(request, is_strict=is_strict)
    applied = ", ".join(f"{each}={found[each]}" for each in OF_READING if each in found)
    return Preferences(form, found.get("count"), rows, found.get("timezone"), applied)


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


def _range(request: web.Request, *, is_strict: bool) -> tuple[int, int | None] | None:
    """The first and the last row of a Range header, which is for GET alone."""
    text = request.headers.get("Range")
    if text is None or request.method != "GET":
        return None
    found = _RANGE.fullmatch(text)
    if found is None or request.headers.get("Range-Unit", "items") != "items":
        if is_strict:
            raise BadParameter(
                "Range is of items, such as 0-24, with Range-Unit: items or without"
                f" it; not {truncated(text)}",
                code="PGRST122",
            )
        return None  # of bytes, as download managers ask
    return int(found[1]), int(found[2]) if found[2] else None
