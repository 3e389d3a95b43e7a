"""The pages at ``/`` and ``/docs``, and the files of ``etl/web`` they are made of.

Browsers may load nothing from other hosts. They keep the files of a page: the pages
name them with the version of all files, as in ``/static/0123456789abcdef/page.js``, and
modules name each other relative to that.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from hashlib import sha256

from aiohttp import web
from aiohttp.web import ContentCoding

from etl.errors import RequestError
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

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}

#: What a browser does with a file that it has: ask each time whether that is current,
#: or, where the URL has the version, use it.
ASK, KEEP = "no-cache", "public, max-age=31536000, immutable"

#: The version, which a file's name below ``/static`` may begin with.
VERSION = re.compile(r"\A[0-9a-f]{16}/")


async def send_page(request: web.Request) -> web.Response:
    """The page at ``/``, where other clients get JSON."""
    response = await _send(request, "index.html")
    response.headers["Vary"] = "Accept, Accept-Encoding"
    return response


async def docs(request: web.Request) -> web.Response:
    """Swagger UI over ``/openapi.json``."""
    return await _send(request, "docs/docs.html")


async def static(request: web.Request) -> web.Response:
    """One of the files of both pages, as it is now, whichever version is asked for."""
    given = request.match_info["file"]
    name = VERSION.sub("", given)
    if name not in FILES:
        raise RequestError(f"there is no file {given!r}", 404)
    is_kept = given.startswith(f"{request.app[PAGE_FILES].version}/")
    return await _send(request, name, KEEP if is_kept else ASK)


#: The bytes of a file, and their coding.
Coded = tuple[bytes, ContentCoding | None]


class PageFiles:
    """The files as they are when they are first sent, each in the codings that it was
    sent in: a page is made of thirty, and to compress them takes long.

    ``version`` is of all of them as they are at the start, and their entity tag.
    """

    def __init__(self) -> None:
        digest = sha256()
        for name in sorted(FILES):
            digest.update(FILES[name].read_bytes())
        self.version = digest.hexdigest()[:16]
        self._files: dict[tuple[str, ContentCoding | None], Coded] = {}

    async def read(self, name: str, coding: ContentCoding | None) -> Coded:
        """The file of this name in a coding; a small one has none."""
        if (name, coding) not in self._files:
            self._files[name, coding] = await asyncio.to_thread(
                self._read, name, coding
            )
        return self._files[name, coding]

    def _read(self, name: str, coding: ContentCoding | None) -> Coded:
        body = FILES[name].read_bytes()
        if name.endswith(".html"):
            body = body.replace(b'="static/', b'="static/%s/' % self.version.encode())
        if coding is None or len(body) < MIN_COMPRESSED:
            return body, None
        return zlib.compress(body, wbits=WINDOW_BITS[coding]), coding


PAGE_FILES = web.AppKey("page_files", PageFiles)


async def _send(
    request: web.Request, name: str, cache_control: str = ASK
) -> web.Response:
    """The file, or 304 for a client that has it."""
    files = request.app[PAGE_FILES]
    body, coding = await files.read(name, coding_of(request))
    response = web.Response(headers={**HEADERS, "Cache-Control": cache_control})
    response.etag = tag = entity_tag(files.version, coding)
    if is_current(request, tag):
        response.set_status(304)
        return response
    response.headers["Content-Type"] = CONTENT_TYPES[FILES[name].suffix]
    if coding:
        response.headers["Content-Encoding"] = coding.value
    response.body = body
    return response
