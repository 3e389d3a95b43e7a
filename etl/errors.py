"""The errors that callers distinguish: of runs, and of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

#: Characters of a value that a message repeats.
MAX_QUOTED = 60


class RunFault(Exception):
    """A run that failed; the message is one line for its record and its caller."""

    #: The state of a run that ended so, and the status of the answer to its trigger.
    state, status = "failed", 500


class DataFault(RunFault):
    """The data is at fault: a file, a record, or what a check found."""

    status = 422


class TooManyRejects(DataFault):
    """More records of a file are rejected than MAX_REJECTS allows."""


class ServiceFault(RunFault):
    """The service or a SQL file is at fault."""


class DiskFull(ServiceFault):
    """There is no space left on the disk of the database."""


class DatabaseUnavailable(RunFault):
    """The database cannot be reached, or the connection to it was lost."""

    status = 503


class Interrupted(RunFault):
    """The service was stopped during the run, or before it could begin."""

    state, status = "interrupted", 503


class Cancelled(RunFault):
    """A client cancelled the run."""

    # A conflict with another request (RFC 9110, 15.5.10). After 503 clients would retry
    # by themselves, though somebody has cancelled the run.
    status = 409


class RequestError(Exception):
    """A request that is answered with an error; the text is its detail.

    ``status`` is that of the class where none is given. ``members`` are those that
    PostgREST's clients read: ``code`` is one of PostgREST's (PGRST100) or a SQLSTATE,
    by default that of the status; ``message``, by default the detail, is what PostgREST
    or Postgres says; ``details`` and ``hint`` are null.
    """

    status = 500

    def __init__(
        self, detail: str, status: int | None = None, **members: str | None
    ) -> None:
        super().__init__(detail)
        self.status = status or self.status
        self.members = members
        self.headers: dict[str, str] = {}


class BadParameter(RequestError, ValueError):
    """A parameter that cannot be used; the message says which and why."""

    status = 400


class RangeNotSatisfiable(RequestError):
    """No such rows can be asked for; ``details`` says why, of ``total`` rows."""

    status = 416

    def __init__(self, details: str, total: int | None = None) -> None:
        super().__init__(
            details,
            code="PGRST103",
            message="Requested range not satisfiable",
            details=details,
        )
        if total is not None:
            self.headers["Content-Range"] = f"*/{total}"


class NotAcceptable(RequestError):
    """No format that the request accepts is available; the message says which are."""

    status = 406


def truncated(text: str) -> str:
    """As much of what was sent as a message can hold, in quotes."""
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


async def all_together(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Run them at once; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
