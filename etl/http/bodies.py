"""Bodies: compressed, or received and sent in parts where memory should not hold them.

Knows how slow a client may be, and nothing of what it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from etl.http.representations import MIN_COMPRESSED, encode_as_accepted

#: Bytes of a part, and the seconds that a client may take to send or to read one before
#: it is disconnected. Slower than this, 4 KiB/s, is no line that anyone uses.
PART_BYTES, PART_SECONDS = 1 << 18, 60.0


async def expect_nothing(request: web.Request) -> None:
    """Send no 100 (Continue) yet: a request may be refused before its body is sent."""


def content_coding(request: web.Request) -> str | None:
    """The coding that the body is in, as its header names it; None if it is in none.

    No body is decoded (see ``create_runner``): a megabyte may become a gigabyte.
    """
    coding = request.headers.get("Content-Encoding", "identity")
    return None if coding.strip().lower() == "identity" else coding


def media_type(request: web.Request) -> str:
    """The type of the body without its parameters, in lower case; that of any bytes
    where the header is missing or empty (RFC 9110, 8.3).

    aiohttp parses them too, which takes a third of a second for two thousand.
    """
    kind, _, _ = request.headers.get("Content-Type", "").partition(";")
    return kind.strip().lower() or "application/octet-stream"


async def receive(request: web.Request) -> AsyncGenerator[bytes]:
    """The body in parts, none for an empty one.

    Raises 408 for a client that is too slow, 400 for a body that ends early, and 417
    for an expectation other than 100-continue.
    """
    if expected := request.headers.get("Expect"):
        if expected.lower() != "100-continue":
            raise web.HTTPExpectationFailed
        if request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer has not begun
    while part := await _receive_part(request):
        yield part


async def _receive_part(request: web.Request) -> bytes:
    content, part = request.content, bytearray()
    try:
        async with asyncio.timeout(PART_SECONDS):
            while len(part) < PART_BYTES and not content.at_eof():
                part += await content.readany()
    except TimeoutError:
        reason = f"the body stalled: {PART_BYTES} bytes take over {PART_SECONDS:g} s"
        raise web.HTTPRequestTimeout(reason=reason) from None
    except (web.RequestPayloadError, ConnectionError):
        length = request.content_length
        of = "" if length is None else f" of {length}"
        reason = f"the body ended after {content.total_bytes}{of} bytes"
        raise web.HTTPBadRequest(reason=reason) from None
    return bytes(part)


async def send(
    request: web.Request, response: web.StreamResponse, parts: AsyncIterator[bytes]
) -> None:
    """Send the parts; to HEAD the headers alone.

    A body that cannot be completed is cut off, so that nobody takes it for whole.
    """
    await response.prepare(request)
    try:
        if request.method != "HEAD":
            async for part in parts:
                async with asyncio.timeout(PART_SECONDS):
                    await response.write(part)
        async with asyncio.timeout(PART_SECONDS):
            await response.write_eof()
    except BaseException:
        if request.transport is not None:
            request.transport.abort()
        raise


@web.middleware
async def finish(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress a body that is known, unless it has been or is short; and close the
    connection after an answer that did not wait for the whole body of its request.
    """
    response = await handler(request)
    if not request.content.is_eof() and not response.prepared:
        response.force_close()
    if (
        isinstance(response, web.Response)
        and isinstance(response.body, bytes)
        and len(response.body) >= MIN_COMPRESSED
        and "ETag" not in response.headers
    ):
        encode_as_accepted(request, response)
    return response
