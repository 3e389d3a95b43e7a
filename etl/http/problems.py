"""Errors as answers: ``application/problem+json`` (RFC 9457) for every one of them.

Clients get what they can fix; internal details stay in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler
from psycopg import OperationalError
from psycopg.errors import ConfigurationLimitExceeded, QueryCanceled
from psycopg_pool import PoolTimeout

from etl.errors import RequestError
from etl.postgres.pools import TableLocked
from etl.postgres.sqlerrors import one_line

#: Seconds after which a client may retry when the service is unavailable.
RETRY_SECONDS = 2

#: What PostgREST would call an error, where nothing closer is known.
CODES = {
    400: "PGRST100",
    401: "PGRST302",
    404: "PGRST125",
    405: "PGRST117",
    406: "PGRST107",
    503: "PGRST001",
    504: "57014",
}

#: The path whose errors also say whether a run was started, and how they say it.
TRIGGER_PATH = "/trigger_etl"
STARTED, NOT_STARTED = "ETL process started", "no ETL process was started"

log = logging.getLogger(__name__)


class TooSlow(Exception):
    """Postgres took longer for a request than it may, or more temporary files."""


def problem(status: int, detail: str, **members: object) -> web.Response:
    """An error as in RFC 9457, and as in PostgREST: message, code, details, hint.

    ``members`` replace these, and add others.
    """
    body = {
        **{"type": "about:blank", "title": HTTPStatus(status).phrase},
        **{"status": status, "detail": detail},
        **{"message": detail, "code": CODES.get(status), "details": None, "hint": None},
        **members,
    }
    response = web.json_response(
        body, status=status, content_type="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    if body["code"]:  # where clients of PostgREST look after HEAD, which has no body
        response.headers["Proxy-Status"] = f"PostgREST; error={body['code']}"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def problem_of(
    request: web.Request, status: int, detail: str, **members: object
) -> web.Response:
    """An error of a request; the trigger's have the members of its other answers, and
    say that no run was started.
    """
    if request.path == TRIGGER_PATH:
        members |= {"message": NOT_STARTED, "result": detail}
        members.setdefault("run", None)
    return problem(status, detail, **members)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into its answer."""
    try:
        return await handler(request)
    except RequestError as error:
        members = error.members
        if error.status == 406:  # where nothing closer is known
            accepted = request.headers.get("Accept", "")
            message = f"None of these media types are available: {accepted}"
            members = {"message": message, **members}
        answer = problem_of(request, error.status, str(error), **members)
        answer.headers.update(error.headers)
        return answer
    except web.HTTPException as error:
        if error.status < 400:
            raise
        if isinstance(error, web.HTTPMethodNotAllowed):
            return _not_allowed(request, error.allowed_methods)
        detail = f"{error.reason}: {request.method} {request.path}"
        members = _unknown_path(request.path) if error.status == 404 else {}
        answer = problem_of(request, error.status, detail, **members)
        if error.status in (400, 408):  # where the next request begins is unknown
            answer.force_close()
        return answer
    except (TooSlow, QueryCanceled, ConfigurationLimitExceeded):
        log.warning("%s %s: took too long", request.method, request.path)
        detail = "this takes too long: ask for less, or for an order that has an index"
        return problem_of(request, 504, detail)
    except TableLocked as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        return problem_of(request, 503, f"{error}: try again in a moment")
    except (OperationalError, PoolTimeout) as error:
        log.warning("%s %s: %s", request.method, request.path, one_line(error))
        detail = "the database is unavailable or too busy: try again in a moment"
        return problem_of(request, 503, detail)
    except (ConnectionError, TimeoutError):
        log.info("%s %s: the client disconnected", request.method, request.path)
        raise
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return problem_of(request, 500, "internal error: see the service's log")


def _unknown_path(path: str) -> dict[str, str | None]:
    """What PostgREST says of a path without a route: it would be a table's."""
    name = path.strip("/")
    if name.startswith("rpc/"):
        what, code = f"function public.{name.removeprefix('rpc/')}", "PGRST202"
    elif "/" not in name:
        what, code = f"table 'public.{name}'", "PGRST205"
    else:
        return {"message": "Invalid path specified in request URL"}
    return {"message": f"Could not find the {what} in the schema cache", "code": code}


def _not_allowed(request: web.Request, methods: Iterable[str]) -> web.Response:
    """405 for a method that the path does not have; to OPTIONS those that it has."""
    answer = web.Response()
    if request.method != "OPTIONS":
        detail = f"Method Not Allowed: {request.method} {request.path}"
        message = f"Unsupported HTTP method: {request.method}"
        answer = problem_of(request, 405, detail, message=message)
    answer.headers["Allow"] = ", ".join(sorted({"OPTIONS", *methods}))
    return answer
