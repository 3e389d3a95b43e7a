"""Who may ask for what: bearer tokens (RFC 6750), and pages of other origins (CORS).

Knows which routes are open to everybody; every other one may ask for a token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from enum import Enum

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from etl.http.problems import TRIGGER_PATH, problem_of
from etl.settings import Settings

#: Routes that begin or end runs, for which API_TOKEN is needed.
RUN_ROUTES = frozenset({TRIGGER_PATH, "/runs/{id}/cancel"})

#: Routes that tell nothing of the data: health, and pages, with the files that they
#: are made of, which ask for data by themselves.
OPEN_ROUTES = frozenset(
    {"/", "/static/{file}", "/docs", "/docs/{file}", "/healthz", "/readyz"}
)

#: What a page of another origin may read of an answer, send with a request, and do.
EXPOSED_HEADERS = "ETag, Link, Location, X-Run-Id, X-Total-Count"
ALLOWED_HEADERS = (
    "Accept, Authorization, Content-Type, If-Modified-Since, If-None-Match,"
    " Last-Event-ID"
)
ALLOWED_METHODS = "GET, HEAD, POST"

#: Seconds for which a browser may remember that.
PREFLIGHT_SECONDS = 600

_CHALLENGE = 'Bearer realm="features-etl"'


class Need(Enum):
    """What a route is for, and so which of the tokens it asks for."""

    NOTHING = "nothing"
    READ = "read"
    RUN = "run"


def need_of(route: str) -> Need:
    """What a route, as its template, is for: reading unless it is known otherwise."""
    if route in RUN_ROUTES:
        return Need.RUN
    return Need.NOTHING if route in OPEN_ROUTES else Need.READ


def tokens_for(settings: Settings, need: Need) -> dict[str, str]:
    """The tokens of which one is needed, by setting; none where everybody may."""
    run, read = settings.api_token, settings.api_token_read
    if need is Need.RUN and run:
        return {"API_TOKEN": run}
    if need is Need.READ and read:
        return {"API_TOKEN_READ": read, **({"API_TOKEN": run} if run else {})}
    return {}


def guards(settings: Settings) -> list[Middleware]:
    """What stands before the handlers; nothing where nothing is to be guarded.

    A browser asks whether it may ask without a token, so that comes first.
    """
    found: list[Middleware] = []
    if settings.cors_origins:
        found.append(_preflight(settings.cors_origins))
    if settings.api_token or settings.api_token_read:
        found.append(_require_token(settings))
    return found


def share(app: web.Application, origins: frozenset[str]) -> None:
    """Let pages of these origins read every answer, also errors and streams."""

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Vary"] = ", ".join(
            filter(None, [response.headers.get("Vary"), "Origin"])
        )
        if allowed := _allowed(request, origins):
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    if origins:
        app.on_response_prepare.append(add_headers)


def _allowed(request: web.Request, origins: frozenset[str]) -> str | None:
    """The origin that may read the answer, ``*`` for all; None where none may."""
    if "*" in origins:
        return "*"
    given = request.headers.getall("Origin", [])
    return given[0] if len(given) == 1 and given[0] in origins else None


def _preflight(origins: frozenset[str]) -> Middleware:
    """Answers a browser that asks whether a page may ask (Fetch, CORS preflight)."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (
            request.method == "OPTIONS"
            and "Access-Control-Request-Method" in request.headers
            and _allowed(request, origins)
        ):
            headers = {
                "Access-Control-Allow-Methods": ALLOWED_METHODS,
                "Access-Control-Allow-Headers": ALLOWED_HEADERS,
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            }
            return web.Response(status=204, headers=headers)
        return await handler(request)

    return answer


def _require_token(settings: Settings) -> Middleware:
    needed = {
        need: [token.encode() for token in tokens_for(settings, need).values()]
        for need in Need
    }

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        tokens = needed[need_of(resource.canonical)] if resource else []
        given = request.headers.getall("Authorization", [])
        if not tokens or _is_one_of(_token_in(given), tokens):
            return await handler(request)
        words = "this needs the header Authorization: Bearer and a token"
        error = ', error="invalid_token"' if given else ""
        answer = problem_of(request, 401, f"{words} that is right" if given else words)
        answer.headers["WWW-Authenticate"] = _CHALLENGE + error
        return answer

    return check


def _token_in(headers: list[str]) -> bytes:
    """The token that was sent; empty, which is none, where that is not clear."""
    found = re.fullmatch(r"bearer +(\S+) *", headers[0], re.I) if headers else None
    if found is None or len(headers) > 1:
        return b""
    return found[1].encode(errors="surrogateescape")


def _is_one_of(given: bytes, tokens: Iterable[bytes]) -> bool:
    """Compares with each to the end: the time that it takes tells nothing."""
    return True in [hmac.compare_digest(given, token) for token in tokens]
