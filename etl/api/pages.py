"""The pages at ``/`` and ``/docs``, and the files of ``etl/web`` they are made of.

aiohttp serves the files with their tags. Browsers may load nothing from other hosts.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from etl.http.negotiation import choose_format
from etl.http.problems import NotThere
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


def send_page() -> web.FileResponse:
    """The page at ``/``, where other clients get JSON."""
    response = _send(FOLDER / "index.html")
    response.headers["Vary"] = "Accept"
    return response


async def docs(request: web.Request) -> web.FileResponse:
    """Swagger UI over ``/openapi.json``."""
    return _send(FOLDER / "docs" / "docs.html")


async def static(request: web.Request) -> web.FileResponse:
    """One of the files of both pages."""
    name = request.match_info["file"]
    if name not in FILES:
        raise NotThere(f"there is no file {name!r}")
    return _send(FILES[name])


def _send(path: Path) -> web.FileResponse:
    headers = {**HEADERS, "Content-Type": CONTENT_TYPES[path.suffix]}
    return web.FileResponse(path, headers=headers)
