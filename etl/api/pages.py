"""The page for people at ``/``: files of ``etl/web``, sent as they are.

Nothing in it is asked of another host, and browsers are told to allow nothing else.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

from aiohttp import ETag, web

from etl.http.negotiation import choose_format
from etl.http.problems import NotThere
from etl.settings import PROJECT

FOLDER = PROJECT / "etl" / "web"

#: Named here, for what Python guesses hangs on the machine.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: What the page is made of, by the names it is asked for: nothing else is sent.
FILES = {
    str(path.relative_to(FOLDER)): path
    for path in (*FOLDER.glob("*"), *FOLDER.glob("vendor/*/*"))
    if path.suffix in CONTENT_TYPES and path.suffix != ".html"
}

#: Scripts, styles and data come from here, and nothing may stand inside the HTML. Icons
#: in style sheets are data URLs.
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'"),
        *("img-src 'self' data:", "connect-src 'self'", "base-uri 'none'"),
        *("form-action 'none'", "frame-ancestors 'none'"),
    )
)

#: A browser may keep a file, and must ask each time whether it still holds.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def wants_page(request: web.Request) -> bool:
    """Whether somebody looks at it, rather than a program asks."""
    accept = request.headers.get("Accept", "")
    return choose_format(accept, ("json", "html")) == "html"


def answer_page(request: web.Request) -> web.Response:
    """The page; a program that asks at the same place is answered something else."""
    answer = _answer(request, FOLDER / "index.html")
    answer.headers["Vary"] = "Accept"
    return answer


async def page_file(request: web.Request) -> web.Response:
    """One of the files that the page is made of."""
    name = request.match_info["file"]
    if name not in FILES:
        raise NotThere(f"the page has no file {name!r}")
    return _answer(request, FILES[name])


def _answer(request: web.Request, path: Path) -> web.Response:
    """A file, or 304 to who has it.

    They are small, and a page asks for many at once: a file response, which goes by a
    thread to each, takes twice as long.
    """
    body, tag = _read(path)
    known = request.if_none_match or ()
    headers = {**HEADERS, "Content-Type": CONTENT_TYPES[path.suffix]}
    answer = web.Response(headers=headers)
    answer.etag = tag
    if any(each.value in (tag.value, "*") for each in known):
        answer.set_status(304)
    else:
        answer.body = body
    return answer


@cache
def _read(path: Path) -> tuple[bytes, ETag]:
    """A file and the hash of it, read at its first use and kept in memory: after a
    change of the file the service must be restarted.
    """
    body = path.read_bytes()
    return body, ETag(sha256(body).hexdigest()[:20])
