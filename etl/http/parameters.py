"""Query parameters of fixed names: which there are, and what each may say.

Those of ``/features``, whose names are columns, are read in ``queries``.
"""

from __future__ import annotations

import re

from aiohttp import web

from etl.http.problems import BadParameter


def refuse_parameters(request: web.Request, *known: str) -> None:
    """400 for a query parameter that would silently do nothing, or stands twice."""
    for name in request.query:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise BadParameter(f"unknown parameter {name!r}; allowed: {allowed}")
        if len(request.query.getall(name)) > 1:
            raise BadParameter(f"parameter {name!r} stands more than once")


def flag(request: web.Request, name: str, *, default: bool) -> bool:
    """``true`` or ``false``, or the default."""
    value = request.query.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false, not {value!r}")
    return value == "true"


def choice(request: web.Request, name: str, *values: str) -> str:
    """One of these values; the first where nothing is said."""
    value = request.query.get(name, values[0])
    if value not in values:
        raise BadParameter(f"{name} is one of {', '.join(values)}, not {value!r}")
    return value


def positive(request: web.Request, name: str, *, most: int = 999_999_999) -> int | None:
    """A whole number from 1 to ``most``, or None."""
    value = request.query.get(name)
    if value is None:
        return None
    if re.fullmatch("[1-9][0-9]{0,18}", value) and int(value) <= most:
        return int(value)
    raise BadParameter(f"{name} is a whole number from 1 to {most}, not {value!r}")


def word(request: web.Request, name: str) -> str | None:
    """A word of letters, digits, ``_`` and ``-``, or None."""
    value = request.query.get(name)
    if value is None or re.fullmatch("[A-Za-z0-9_-]{1,63}", value):
        return value
    raise BadParameter(f"{name} is a word, as in the list of rejects, not {value!r}")
