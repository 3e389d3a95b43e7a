"""Who may send requests: bearer tokens (RFC 6750), and pages of other origins (CORS).

Routes need a token for reading unless they are listed here.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from etl.http.problems import TRIGGER_PATH, problem_of
from etl.settings import Settings

#: Routes that start or cancel runs need API_TOKEN.
RUN_ROUTES = frozenset({TRIGGER_PATH, "/runs/{id}/cancel"})

#: Routes that show no data: health, and pages with their files, which fetch data by
#: requests of their own.
OPEN_ROUTES = frozenset({"/", "/static/{file}", "/docs", "/healthz", "/readyz"})

#: What pages of other origins may read of an answer.
EXPOSED_HEADERS = "ETag, Link, Location, X-Run-Id, X-Total-Count"

#: The answer to a browser that asks what such a page may send. It may keep the answer
#: for ten minutes.
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": (
        "Accept, Authorization, Content-Type, If-Modified-Since, If-None-Match,"
        " Last-Event-ID"
    ),
    "Access-Control-Max-Age": "600",
}

UNAUTHENTICATED = "this needs the header Authorization: Bearer and a token"
INVALID = f"{UNAUTHENTICATED} that is valid"


def tokens_for(settings: Settings, route: str) -> dict[str, str]:
    """The tokens, by setting, any of which a route needs; empty if it needs none."""
    run, read = settings.api_token, settings.api_token_read
    if route in OPEN_ROUTES:
        return {}
    if route in RUN_ROUTES:
        return {"API_TOKEN": run} if run else {}
    if not read:
        return {}
    return {"API_TOKEN_READ": read, **({"API_TOKEN": run} if run else {})}


def require_tokens(settings: Settings) -> Middleware:
    """Requests without a valid token get 401 where the route needs one."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        tokens = tokens_for(settings, resource.canonical) if resource else {}
        given = request.headers.getall("Authorization", [])
        if not tokens or _is_valid(given, tokens.values()):
            return await handler(request)
        answer = problem_of(request, 401, INVALID if given else UNAUTHENTICATED)
        error = ', error="invalid_token"' if given else ""
        answer.headers["WWW-Authenticate"] = f'Bearer realm="features-etl"{error}'
        return answer

    return check


def _is_valid(headers: Sequence[str], tokens: Iterable[str]) -> bool:
    """Whether there is one header with one of the tokens, compared in constant time."""
    found = re.fullmatch(r"bearer +(\S+) *", ", ".join(headers), re.IGNORECASE)
    token = found[1].encode(errors="surrogateescape") if found else b""
    return any(hmac.compare_digest(token, each.encode()) for each in tokens)


def allow_origins(app: web.Application, origins: frozenset[str]) -> None:
    """Let pages of these origins read every answer, errors and streams included."""

    def allowed(request: web.Request) -> str | None:
        given = request.headers.getall("Origin", [])
        if "*" in origins:
            return "*"
        return given[0] if len(given) == 1 and given[0] in origins else None

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        vary = response.headers.get("Vary")
        response.headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        if origin := allowed(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    @web.middleware
    async def answer_preflight(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        is_preflight = (
            request.method == "OPTIONS"
            and "Access-Control-Request-Method" in request.headers
            and allowed(request)
        )
        if is_preflight:  # browsers send no token with it
            return web.Response(status=204, headers=PREFLIGHT)
        return await handler(request)

    app.on_response_prepare.append(add_headers)
    app.middlewares.append(answer_preflight)
