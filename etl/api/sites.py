"""Which sites a browser may bring requests from: none but this service's own.

A browser sends what any page tells it to, also to services that only its machine can
reach. It says where a request comes from in headers that no page can set.
"""

from __future__ import annotations

import ipaddress
import re
import socket

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from etl.api.access import acts
from etl.errors import truncated
from etl.http.addresses import absolute_url
from etl.http.problems import problem_of
from etl.settings import Settings

#: A Host header, in lower case: a name or an address, and a port.
HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)]|(?P<name>[^]\[:@/]+?)\.?)(?::\d*)?")

#: Whether a page of this service, or nobody but its user, has caused a request.
OWN = ("same-origin", "none")

#: Routes that whatever watches the service may ask under any name.
HEALTH_ROUTES = ("/healthz", "/readyz")


def refuse_other_sites(settings: Settings) -> Middleware:
    """What changes something is refused with 403 if a page of another site sends it.

    CORS_ORIGINS may name such sites. ``*`` does so only where a token is needed too,
    which a page must have from its user.
    """
    origins = settings.cors_origins

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        is_named = origin in origins or ("*" in origins and settings.api_token)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        is_harmless = not route or not acts(request.method, route)
        if is_harmless or is_named or _is_own(request, origin):
            return await handler(request)
        detail = (
            f"a page of another site ({truncated(origin or 'unknown')}) may not do it:"
            " CORS_ORIGINS names those that may"
        )
        return problem_of(request, 403, detail)

    return check


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


def require_known_hosts(settings: Settings) -> Middleware:
    """Requests for a host that is not this service's get 421, where they need no token.

    Otherwise a page could read all answers: its own name need only lead to this machine
    after it was loaded ("DNS rebinding").
    """
    here = {settings.host.lower(), socket.gethostname().lower()}
    named = settings.allowed_hosts | here
    is_open = "*" in named or (settings.api_token and not settings.allowed_hosts)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        resource = request.match_info.route.resource
        is_health = resource is not None and resource.canonical in HEALTH_ROUTES
        if is_open or is_health or all(_is_known(each, named) for each in hosts):
            return await handler(request)
        detail = f"this is not {truncated(hosts[0])}: ALLOWED_HOSTS names other hosts"
        return problem_of(request, 421, detail)

    return check


def _is_known(host: str, named: frozenset[str]) -> bool:
    """Whether a Host header is one of these names, of the loopback, or an address.

    No DNS answers for an address, so the page of one comes from there.
    """
    found = HOST.fullmatch(host.lower())
    name = (found["address"] or found["name"]) if found else host
    if not host or name in named or f".{name}".endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
