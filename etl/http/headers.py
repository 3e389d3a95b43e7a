"""Headers of answers: those that all have, and those of a format."""

from __future__ import annotations

import re
from urllib.parse import quote

from aiohttp import hdrs, web
from multidict import istr

#: What every answer has. aiohttp would name its version and Python's.
COMMON_HEADERS: dict[str, str] = {
    hdrs.SERVER: "features-etl",
    istr("X-Content-Type-Options"): "nosniff",
}


async def add_common_headers(
    request: web.Request, response: web.StreamResponse
) -> None:
    """Called by aiohttp before it sends the headers of an answer."""
    response.headers.update(COMMON_HEADERS)


def add_vary(response: web.StreamResponse, name: str) -> None:
    """Say that the answer depends on this header of the request too."""
    given = response.headers.get("Vary")
    response.headers["Vary"] = f"{given}, {name}" if given else name


def attachment(name: str) -> dict[str, str]:
    """The header by which browsers save the answer as a file of this name."""
    value = f'filename="{name}"'
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        value = f"filename*=UTF-8''{quote(name, safe='')}"
    return {"Content-Disposition": f"attachment; {value}"}
