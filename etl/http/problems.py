"""Errors as answers: ``application/problem+json`` (RFC 9457) for every one of them.

What a caller can mend is told; what is internal stays in the log.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler
from psycopg import OperationalError
from psycopg.errors import QueryCanceled
from psycopg_pool import PoolTimeout

from etl.errors import BadParameter, NotAcceptable
from etl.postgres.sqlerrors import one_line

#: Seconds after which a client may try again when the database is away.
RETRY_SECONDS = 2

log = logging.getLogger(__name__)


#: What answers of the trigger say, its errors included: whether they began a run.
TRIGGER_PATH = "/trigger_etl"
STARTED, NOT_STARTED = "ETL process started", "no ETL process was started"


class TooSlow(Exception):
    """Postgres took longer for a request than it may."""


class NotThere(LookupError):
    """What the path names is not there; the message says what."""


def problem(status: int, detail: str, **members: object) -> web.Response:
    """An error as RFC 9457 has it, with ``members`` beside the standard ones."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    response = web.json_response(
        {**body, **members}, status=status, content_type="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def problem_of(request: web.Request, status: int, detail: str) -> web.Response:
    """An error of a request; the trigger's carry what its other answers carry."""
    if request.path == TRIGGER_PATH:
        return problem(status, detail, message=NOT_STARTED, result=detail, run=None)
    return problem(status, detail)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into its answer."""
    try:
        return await handler(request)
    except BadParameter as error:
        return problem_of(request, 400, str(error))
    except NotThere as error:
        return problem_of(request, 404, str(error))
    except NotAcceptable as error:
        return problem_of(request, 406, str(error))
    except (TooSlow, QueryCanceled):
        log.warning("%s %s: took too long", request.method, request.path)
        words = "this takes too long: ask for less, or for an order that has an index"
        return problem_of(request, 504, words)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        detail = f"{error.reason}: {request.method} {request.path}"
        answer = problem_of(request, error.status, detail)
        if error.keep_alive is False:
            answer.force_close()
        if isinstance(error, web.HTTPMethodNotAllowed):
            answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    except (OperationalError, PoolTimeout) as error:
        log.warning("%s %s: %s", request.method, request.path, one_line(error))
        return problem_of(request, 503, "the database is away: try again in a moment")
    except (ConnectionError, TimeoutError):
        log.info("%s %s: the client is gone", request.method, request.path)
        raise
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return problem_of(request, 500, "internal error: the service's log tells more")
