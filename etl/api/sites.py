"""What pages of other sites may send and read (CORS), and which hosts are this service.

A browser sends what any page tells it to, also to services that only its machine can
reach. It says where a request comes from in headers that no page can set.
"""

from __future__ import annotations

import socket
from functools import lru_cache

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from etl.errors import RequestError, truncated
from etl.http.addresses import HOST, absolute_url, ip_of
from etl.http.headers import add_vary
from etl.http.protocol import METHODS
from etl.settings import Settings

#: What pages of other origins may read of an answer, beside Content-Type and such that
#: they may always read.
EXPOSED_HEADERS = (
    "Content-Disposition, Content-Encoding, Content-Location, Content-Range, Date,"
    " ETag, Link, Location, Preference-Applied, Proxy-Status, Range-Unit, Retry-After,"
    " X-Max-Upload, X-Run-Id, X-Total-Count, X-Uploads-Refused"
)

#: The answer to a browser that asks what such a page may send, which it may keep for
#: ten minutes. `*` are all headers but Authorization: an origin that is listed may read
#: everything, and PostgREST's libraries add headers that nobody here knows.
PREFLIGHT = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": (
        "Accept, Accept-Profile, apikey, Authorization, Content-Profile, Content-Type,"
        " If-Match, If-None-Match, Last-Event-ID, Prefer, Range, Range-Unit,"
        " X-Client-Info, *"
    ),
    "Access-Control-Max-Age": "600",
}

#: Whether a page of this service, or nobody but its user, has caused a request.
OWN = ("same-origin", "none")


def require_own_site(request: web.Request, settings: Settings) -> None:
    """403 if a page of another site sends it that CORS_ORIGINS does not name.

    ``*`` names sites only where a token is needed too, which a page must have from its
    user.
    """
    origin, origins = request.headers.get("Origin"), settings.cors_origins
    is_named = origin in origins or ("*" in origins and settings.api_token)
    if not is_named and not _is_own(request, origin):
        raise RequestError(
            f"a page of another site ({truncated(origin or 'unknown')}) may not do it:"
            " CORS_ORIGINS names those that may",
            403,
        )


def _is_own(request: web.Request, origin: str | None) -> bool:
    """Whether no page of another site has caused a request, as far as headers say."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in OWN
    if origin is None:  # no browser, or one that tells nothing without encryption
        return True
    try:
        its, own = URL(origin), URL(absolute_url(request, "/"))
    except ValueError:
        return False
    # A proxy that speaks TLS may not say so, and schemes differ.
    return (its.host, its.explicit_port) == (own.host, own.explicit_port)


def known_hosts(settings: Settings) -> frozenset[str]:
    """The names of this service; ``*`` where it may have any.

    Tokens keep pages out that lead their own name to this machine after they were
    loaded ("DNS rebinding"). Without any, such a page could read all answers.
    """
    if settings.api_token and not settings.allowed_hosts:
        return frozenset({"*"})
    here = {settings.host.lower(), socket.gethostname().lower()}
    return settings.allowed_hosts | here


def require_known_host(request: web.Request, names: frozenset[str]) -> None:
    """421 if it is for a host that is not this service's."""
    for host in request.headers.getall("Host", ()):
        if not _is_known(host, names):
            raise RequestError(
                f"this is not {truncated(host)}: ALLOWED_HOSTS names other hosts", 421
            )


@lru_cache
def _is_known(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header is one of these names, of the loopback, or an address.

    No DNS answers for an address, so the page of one comes from there.
    """
    found = HOST.fullmatch(host.lower())
    name = (found["address"] or found["name"]) if found else host
    if not host or name in names or "*" in names:
        return True
    return f".{name}".endswith(".localhost") or ip_of(name) is not None


def allow_origins(app: web.Application, origins: frozenset[str]) -> None:
    """Let pages of these origins read every answer, errors and streams included."""

    def allowed(request: web.Request) -> str | None:
        given = request.headers.getall("Origin", [])
        if "*" in origins:
            return "*"
        return given[0] if len(given) == 1 and given[0] in origins else None

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        add_vary(response, "Origin")
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
