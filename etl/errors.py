"""The ways in which a run can fail, as its callers tell them apart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable


class RunFault(Exception):
    """A run that failed; the message is one line for its record and its caller."""


class DataFault(RunFault):
    """The data is at fault: a file, a record, or what a check found."""


class TooManyRejects(DataFault):
    """More records of a file are rejected than MAX_REJECTS allows."""


class CheckFault(DataFault):
    """Checks found rows; ``checks`` are their files, as ``check/010_name.sql``."""

    def __init__(self, words: str, checks: Collection[str]) -> None:
        super().__init__(words)
        self.checks = checks


class ServiceFault(RunFault):
    """The service or a SQL file is at fault."""


class DatabaseAway(RunFault):
    """The database cannot be reached, or left in the middle."""


class Interrupted(RunFault):
    """The service was stopped while it ran, or before it could begin."""


class Cancelled(RunFault):
    """Somebody asked for its end."""


async def all_together(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Run them at once; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
