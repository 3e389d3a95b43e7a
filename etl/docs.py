"""The page at ``/docs``: Swagger UI over ``/openapi.json``, from files of this folder.

Nothing in it is asked of another host, and browsers are told to allow nothing else.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from etl.problems import NotThere

FOLDER = Path(__file__).with_name("web") / "docs"

#: What the page is made of, by the names it is asked for.
FILES = {
    path.name: path
    for path in (
        *(FOLDER / "docs.css", FOLDER / "docs.js"),
        FOLDER / "swagger-ui" / "swagger-ui.css",
        FOLDER / "swagger-ui" / "swagger-ui-bundle.js",
    )
}

#: Swagger UI's icons are data URLs in its style sheet.
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'"),
        *("img-src 'self' data:", "connect-src 'self'", "base-uri 'none'"),
        *("form-action 'none'", "frame-ancestors 'none'"),
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


#: Named here, for what Python guesses hangs on the machine.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


async def docs(request: web.Request) -> web.FileResponse:
    """The page."""
    return _send(FOLDER / "docs.html")


async def docs_file(request: web.Request) -> web.FileResponse:
    """One of the files that the page is made of."""
    name = request.match_info["file"]
    if name not in FILES:
        raise NotThere(f"/docs has no file {name!r}")
    return _send(FILES[name])


def _send(path: Path) -> web.FileResponse:
    headers = {**HEADERS, "Content-Type": CONTENT_TYPES[path.suffix]}
    return web.FileResponse(path, headers=headers)
