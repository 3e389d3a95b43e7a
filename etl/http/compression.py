"""Which answers are compressed, and how: by the coding that a request prefers.

An answer with an entity tag is compressed where it is made, since each coding has a tag
of its own.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web import ContentCoding

from etl.http.headers import add_vary
from etl.http.negotiation import choose_coding

#: Bytes of a body that fit into a packet as they are.
MIN_COMPRESSED = 1024


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress a body that is known, unless it has been or is short."""
    response = await handler(request)
    if (
        isinstance(response, web.Response)
        and isinstance(response.body, bytes)
        and len(response.body) >= MIN_COMPRESSED
        and "ETag" not in response.headers
    ):
        encode_as_accepted(request, response)
    return response


def encode_as_accepted(request: web.Request, response: web.StreamResponse) -> None:
    """Compress the body in the coding that the request prefers, if any."""
    add_vary(response, "Accept-Encoding")
    encode(request, response, coding_of(request))


def coding_of(request: web.Request) -> ContentCoding | None:
    """The coding that the request prefers, None for no coding."""
    return choose_coding(request.headers.get("Accept-Encoding", ""))


def encode(
    request: web.Request, response: web.StreamResponse, coding: ContentCoding | None
) -> None:
    """Compress the body in this coding, if any, also one that is sent as it is made."""
    if coding is None:
        return
    if request.method == "HEAD" and not isinstance(response, web.Response):
        # aiohttp would send the end of a compressed stream as the body.
        response.headers["Content-Encoding"] = coding.value
    else:
        response.enable_compression(coding)
