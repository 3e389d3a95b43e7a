"""The page at ``/docs``: Swagger UI over ``/openapi.json``, from files of ``etl/web``.

Nothing in it is asked of another host, and browsers are told so as for the page at /.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from etl.api.pages import CONTENT_TYPES, HEADERS
from etl.api.pages import FOLDER as PAGES
from etl.http.problems import NotThere

FOLDER = PAGES / "docs"

#: What the page is made of, by the names it is asked for.
FILES = {
    path.name: path
    for path in (
        *(FOLDER / "docs.css", FOLDER / "docs.js"),
        FOLDER / "swagger-ui" / "swagger-ui.css",
        FOLDER / "swagger-ui" / "swagger-ui-bundle.js",
    )
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
