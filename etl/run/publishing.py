"""The one transaction that puts what was built in the place of the last rows."""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from typing import Any

import psycopg
from psycopg import AsyncConnection, DataError, IntegrityError, Rollback

from etl.errors import DataFault, ServiceFault
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import local, transaction
from etl.run.records import Run, note

#: For the one transaction whose rows must be on disk when the run is said to be over.
#: A row of features that somebody else has locked is waited for, but not for ever.
PUBLISH_SETTINGS = {"synchronous_commit": "on", "lock_timeout": "60s"}


async def publish(
    run: Run, lead: AsyncConnection, checked: asyncio.Future[bool]
) -> None:
    """Write the rows in one transaction, and commit it when all is checked.

    Where a check fails in the meantime, the writing is cancelled by the server,
    since the run has use for the connection yet. Raises RunFault.
    """
    record = run.record
    try:
        async with transaction(lead, local(PUBLISH_SETTINGS)):
            writing = asyncio.create_task(
                lead.execute("select etl.publish(%s)", [run.id])
            )
            try:
                either: list[asyncio.Future[Any]] = [writing, checked]
                await asyncio.wait(either, return_when=FIRST_COMPLETED)
                if checked.done() and not checked.result():
                    await lead.cancel_safe()
                await writing
                if not await checked:
                    raise Rollback
                # Whoever sees that it has succeeded sees all that it did.
                record = await note(lead, run)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        run.record = record
    except psycopg.errors.ForeignKeyViolation as error:
        raise DataFault(
            f"publish: {one_line(error)} A foreign key to features must be "
            "deferrable, and the rows it refers to must be in the new features."
        ) from error
    except (DataError, IntegrityError) as error:
        raise DataFault(f"publish: {one_line(error)}") from error
    except psycopg.errors.LockNotAvailable as error:
        waited = PUBLISH_SETTINGS["lock_timeout"]
        words = f"publish: features was locked by somebody else for over {waited}"
        raise ServiceFault(words) from error
