"""The pages at ``/`` and ``/docs``, and the files of ``etl/web`` they are made of.

Browsers may load nothing from other hosts.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from aiohttp import ETag, web
from aiohttp.web import ContentCoding

from etl.errors import RequestError
from etl.http.negotiation import choose_format
from etl.http.representations import (
    MIN_COMPRESSED,
    coding_of,
    entity_tag,
    is_current,
)
from etl.settings import PROJECT

FOLDER = PROJECT / "etl" / "web"

#: Named here because the types that Python guesses depend on the machine.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: The files by their names below ``/static``; others in the folder are not served.
FILES = {
    path.relative_to(FOLDER).as_posix(): path
    for path in FOLDER.rglob("*")
    if path.suffix in CONTENT_TYPES and path.is_file()
}

#: What zlib writes for each coding: gzip's format, or its own, which is HTTP's deflate.
WINDOW_BITS = {ContentCoding.gzip: 31, ContentCoding.deflate: 15}

#: Scripts, styles and data come from this service, none is inline in the HTML. Icons in
#: style sheets are data URLs.
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'"),
        *("img-src 'self' data:", "connect-src 'self'", "base-uri 'none'"),
        *("form-action 'none'", "frame-ancestors 'none'"),
    )
)

#: A browser may keep a file, and must ask each time whether it has changed.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
}


def wants_page(request: web.Request) -> bool:
    """Whether a client prefers HTML, as browsers do."""
    accept = request.headers.get("Accept", "")
    return choose_format(accept, ("json", "html")) == "html"


async def send_page(request: web.Request) -> web.Response:
    """The page at ``/``, where other clients get JSON."""
    response = await _send(request, FOLDER / "index.html")
    response.headers["Vary"] = "Accept, Accept-Encoding"
    return response


async def docs(request: web.Request) -> web.Response:
    """Swagger UI over ``/openapi.json``."""
    return await _send(request, FOLDER / "docs" / "docs.html")


async def static(request: web.Request) -> web.Response:
    """One of the files of both pages."""
    name = request.match_info["file"]
    if name not in FILES:
        raise RequestError(f"there is no file {name!r}", 404)
    return await _send(request, FILES[name])


class Version(NamedTuple):
    """What changes with a file: its bytes, and nanoseconds since 1970."""

    size: int
    modified: int


@dataclass(frozen=True)
class CachedFile:
    """What is sent of a version of a file, in one coding."""

    version: Version
    body: bytes
    tag: ETag


#: Files that were sent, so that none is read and compressed at every request: a page is
#: made of thirty. There are no more than FILES in each coding.
CACHED_FILES = web.AppKey(
    "cached_files", dict[tuple[Path, ContentCoding | None], CachedFile]
)


async def _send(request: web.Request, path: Path) -> web.Response:
    """The file, or 304 for a client that has it."""
    files, version = request.app[CACHED_FILES], _version(path)
    coding = coding_of(request) if version.size >= MIN_COMPRESSED else None
    cached = files.get((path, coding))
    if cached is None or cached.version != version:
        cached = await asyncio.to_thread(_read, path, coding, version)
        files[path, coding] = cached
    response = web.Response(headers={**HEADERS, "Vary": "Accept-Encoding"})
    response.etag = cached.tag
    if is_current(request, cached.tag):
        response.set_status(304)
        return response
    response.headers["Content-Type"] = CONTENT_TYPES[path.suffix]
    if coding:
        response.headers["Content-Encoding"] = coding.value
    response.body = cached.body
    return response


def _version(path: Path) -> Version:
    status = path.stat()
    return Version(status.st_size, status.st_mtime_ns)


def _read(path: Path, coding: ContentCoding | None, version: Version) -> CachedFile:
    """Read the file and compress it, which takes long for the largest."""
    body = path.read_bytes()
    tag = entity_tag(sha256(body).hexdigest()[:32], coding)
    if coding:
        body = zlib.compress(body, wbits=WINDOW_BITS[coding])
    return CachedFile(version, body, tag)
