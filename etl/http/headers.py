"""The headers of all answers."""

from __future__ import annotations

from aiohttp import web

#: What every answer has. aiohttp would name its version and Python's.
COMMON_HEADERS = {"Server": "features-etl", "X-Content-Type-Options": "nosniff"}


async def add_common_headers(
    request: web.Request, response: web.StreamResponse
) -> None:
    """Called by aiohttp before it sends the headers of an answer."""
    response.headers.update(COMMON_HEADERS)
