"""Query parameters with fixed names: which a route takes, and their values.

A route may take them in a body too. Those of ``/features``, which are named like
columns, are parsed with the query.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from etl.errors import BadParameter, truncated
from etl.http.bodies import content_coding, media_type

#: Bytes of a body, which names a few parameters, and seconds in which it must arrive.
MAX_BODY_BYTES = 1 << 16
MAX_BODY_SECONDS = 30.0

JSON_TYPE, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"


def refuse_parameters(request: web.Request, *known: str) -> None:
    """400 for a query parameter that is unknown, or appears twice."""
    _refuse(request.query.items(), known)


async def read_parameters(request: web.Request, *known: str) -> Mapping[str, str]:
    """The parameters of the query string and of the body, a JSON object or a form.

    An empty body has none, whatever its type. Raises BadParameter also where the two
    differ, and 408, 413 or 415 for a body that cannot be read.
    """
    refuse_parameters(request, *known)
    given = dict(request.query)
    in_body = await _read_body(request)
    _refuse(in_body, known)
    for name, value in in_body:
        if given.setdefault(name, value) != value:
            raise BadParameter(
                f"{name} is {truncated(given[name])} in the query string and"
                f" {truncated(value)} in the body: send one"
            )
    return given


def _refuse(given: Iterable[tuple[str, str]], known: Iterable[str]) -> None:
    seen: set[str] = set()
    for name, _ in given:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise BadParameter(
                f"unknown parameter {truncated(name)}; allowed: {allowed}"
            )
        if name in seen:
            raise BadParameter(f"parameter {name!r} appears more than once")
        seen.add(name)


async def _read_body(request: web.Request) -> list[tuple[str, str]]:
    body = b""
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            while len(body) <= MAX_BODY_BYTES and not request.content.at_eof():
                body += await request.content.readany()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the body did not arrive") from None
    except web.RequestPayloadError:
        raise web.HTTPBadRequest(reason="the body ends early") from None
    if not body:
        return []
    if (coding := content_coding(request)) is not None:
        reason = f"Content-Encoding: {truncated(coding)}: send the body unpacked"
        raise web.HTTPUnsupportedMediaType(reason=reason)
    kind = media_type(request)
    if kind not in (JSON_TYPE, FORM_TYPE):
        raise web.HTTPUnsupportedMediaType(
            reason=f"a body is {JSON_TYPE} or {FORM_TYPE}, not {truncated(kind)}"
        )
    if len(body) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(
            MAX_BODY_BYTES, reason=f"the body is longer than {MAX_BODY_BYTES} bytes"
        )
    try:
        text = body.decode("utf-8-sig")
        return _parse_json(text) if kind == JSON_TYPE else _parse_form(text)
    except UnicodeDecodeError as error:
        raise BadParameter(f"the body is not UTF-8: byte {error.start + 1}") from None


def _parse_json(text: str) -> list[tuple[str, str]]:
    try:
        # As tuples of pairs, since an object may name a member twice.
        found = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise BadParameter(f"the body is not JSON: {error}") from None
    except (ValueError, RecursionError):
        raise BadParameter("the body is not JSON that can be read") from None
    if not isinstance(found, tuple):
        raise BadParameter('the body is not a JSON object such as {"wait": false}')
    return [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in found
    ]


def _parse_form(text: str) -> list[tuple[str, str]]:
    if text.lstrip()[:1] in ("{", "["):  # curl sends JSON as a form by default
        raise BadParameter(
            f"the body is no form: send JSON with the header Content-Type: {JSON_TYPE}"
        )
    return parse_qsl(text, keep_blank_values=True, errors="strict")


def flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    """``true`` or ``false``, or the default."""
    value = given.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false, not {truncated(value)}")
    return value == "true"


def choice(request: web.Request, name: str, *values: str) -> str:
    """One of these values, by default the first."""
    value = request.query.get(name, values[0])
    if value not in values:
        raise BadParameter(
            f"{name} is one of {', '.join(values)}, not {truncated(value)}"
        )
    return value


def positive(request: web.Request, name: str, *, most: int = 999_999_999) -> int | None:
    """A whole number from 1 to ``most``, or None."""
    value = request.query.get(name)
    if value is None:
        return None
    if re.fullmatch("[1-9][0-9]{0,18}", value) and int(value) <= most:
        return int(value)
    found = truncated(value)
    raise BadParameter(f"{name} is a whole number from 1 to {most}, not {found}")


def identifier(request: web.Request, name: str) -> str | None:
    """Letters, digits, ``_`` and ``-``, or None."""
    value = request.query.get(name)
    if value is None or re.fullmatch("[A-Za-z0-9_-]{1,63}", value):
        return value
    found = truncated(value)
    raise BadParameter(f"{name} is a word, as in the list of rejects, not {found}")


def csv_name(request: web.Request, name: str) -> str | None:
    """The name of a CSV file, or None."""
    value = request.query.get(name)
    if value is None or re.fullmatch(r"[^\0/]{1,251}\.csv", value):
        return value
    raise BadParameter(f"{name} is the name of a CSV file, not {truncated(value)}")
