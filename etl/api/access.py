"""Who may send requests: bearer tokens (RFC 6750), and pages of other origins (CORS).

Routes need a token for reading unless they are listed here.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from etl.http.addresses import is_proxy
from etl.http.headers import add_vary
from etl.http.problems import TRIGGER_PATH, problem_of
from etl.http.protocol import METHODS
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

UNAUTHENTICATED = "this needs the header Authorization: Bearer and a token"
INVALID = f"{UNAUTHENTICATED} that is valid"

#: Headers by which a proxy says that it sends the request of another client.
FORWARDED = (
    *("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Real-IP", "Via"),
)

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


def is_local(request: web.Request) -> bool:
    """Whether a client is on this machine, and not behind a proxy."""
    if is_proxy(request) or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def why_refused(
    settings: Settings, request: web.Request, route: str, method: str
) -> tuple[int, str] | None:
    """The status and detail by which its client may not send such a request, if so.

    Where no token is set, the files are for clients on this machine.
    """
    tokens = tokens_for(settings, route, method)
    if route == FILE_ROUTE and not tokens and not is_local(request):
        return 403, NOT_LOCAL
    if not tokens:
        return None
    given = request.headers.getall("Authorization", [])
    if _is_valid(given, tokens.values()):
        return None
    return 401, INVALID if given else UNAUTHENTICATED


def require_tokens(settings: Settings) -> Middleware:
    """Requests without a valid token get 401 where the route needs one, others 403."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        refusal = resource and why_refused(
            settings, request, resource.canonical, request.method
        )
        if not refusal:
            return await handler(request)
        status, detail = refusal
        if status != 401:
            return problem_of(request, status, detail)
        code = "PGRST301" if detail == INVALID else "PGRST302"
        answer = problem_of(request, 401, detail, code=code)
        error = ', error="invalid_token"' if detail == INVALID else ""
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
