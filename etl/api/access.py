"""Which requests are answered: for a known host, from no other site, with a token.

Routes need a token for reading (RFC 6750) unless they are listed here.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from etl.api.sites import known_hosts, require_known_host, require_own_site
from etl.errors import RequestError
from etl.http.addresses import is_local
from etl.http.problems import TRIGGER_PATH
from etl.http.protocol import HEALTH_PATHS
from etl.settings import Settings

#: Routes that start or cancel runs need API_TOKEN.
RUN_ROUTES = frozenset({TRIGGER_PATH, "/runs/{id}/cancel"})

#: The route of the CSV files themselves.
FILE_ROUTE = "/files/{name}.csv"

#: Methods that change nothing, but on RUN_ROUTES.
READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Routes that show no data: health, and pages with their files, which fetch data by
#: requests of their own.
OPEN_ROUTES = frozenset({"/", "/static/{file}", "/docs", "/healthz", "/readyz"})

UNAUTHENTICATED = "this needs the header Authorization: Bearer and a token"
INVALID = f"{UNAUTHENTICATED} that is valid"

NOT_LOCAL = "without a token, files are for clients on this machine: set API_TOKEN"


def acts(method: str, route: str) -> bool:
    """Whether such a request starts or cancels a run, or changes a file."""
    return route in RUN_ROUTES or method not in READING


def tokens_for(settings: Settings, route: str, method: str = "GET") -> dict[str, str]:
    """The tokens, by setting, any of which a request needs; empty if it needs none.

    The files have more in them than the table, so any token guards these.
    """
    run, read = settings.api_token, settings.api_token_read
    run_token = {"API_TOKEN": run} if run else {}
    read_token = {"API_TOKEN_READ": read} if read else {}
    if route in OPEN_ROUTES:
        return {}
    if acts(method, route):
        return run_token
    if route == FILE_ROUTE:
        return read_token | run_token
    return read_token | run_token if read else {}


def why_refused(
    settings: Settings, request: web.Request, route: str, method: str
) -> RequestError | None:
    """Why its client may not send such a request, if so.

    Where no token is set, the files are for clients on this machine.
    """
    tokens = tokens_for(settings, route, method)
    if route == FILE_ROUTE and not tokens and not is_local(request):
        return RequestError(NOT_LOCAL, 403)
    if not tokens:
        return None
    given = request.headers.getall("Authorization", [])
    if _is_valid(given, tokens.values()):
        return None
    if given:
        code, detail, error = "PGRST301", INVALID, ', error="invalid_token"'
    else:
        code, detail, error = "PGRST302", UNAUTHENTICATED, ""
    refusal = RequestError(detail, 401, code=code)
    refusal.headers["WWW-Authenticate"] = f'Bearer realm="features-etl"{error}'
    return refusal


def require_access(settings: Settings) -> Middleware:
    """Refuse requests for an unknown host (421), of a page of another site (403) and
    without a valid token (401), where it matters.
    """
    hosts = known_hosts(settings)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if route not in HEALTH_PATHS:  # for whatever watches the service
            require_known_host(request, hosts)
        if route and acts(request.method, route):
            require_own_site(request, settings)
        if route and (refusal := why_refused(settings, request, route, request.method)):
            raise refusal
        return await handler(request)

    return check


def _is_valid(headers: Sequence[str], tokens: Iterable[str]) -> bool:
    """Whether there is one header with one of the tokens, compared in constant time."""
    found = re.fullmatch(r"bearer +(\S+) *", ", ".join(headers), re.IGNORECASE)
    token = found[1].encode(errors="surrogateescape") if found else b""
    return any(hmac.compare_digest(token, each.encode()) for each in tokens)
