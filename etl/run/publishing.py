"""The one transaction that replaces the rows of features by those that were built, and
those with which other runs succeed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg
from psycopg import AsyncConnection, DataError, IntegrityError, Rollback, sql

from etl.errors import DataFault, ServiceFault
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import transaction
from etl.run.records import Run, save_run


async def publish(
    run: Run,
    lead: AsyncConnection,
    built: str,
    hashes_rows: bool,
    checked: asyncio.Future[bool],
) -> None:
    """Write the rows in one transaction, and commit it when all is checked.

    ``built`` is the version of what was built; with ``hashes_rows`` the digest of the
    content counts the rows in, since they depend on more than files and SQL.

    If a check fails in the meantime, the server cancels the writing, since the run
    still needs the connection. Raises RunFault.
    """

    async def cancel_if_check_fails() -> None:
        await asyncio.wait([checked])
        if not checked.result():
            with suppress(psycopg.Error):
                await lead.cancel_safe()

    cancelling = asyncio.create_task(cancel_if_check_fails())

    async def settle() -> None:
        """Wait until a cancellation has arrived: it could end a later statement."""
        if checked.done() and not checked.cancelled() and not checked.result():
            await asyncio.wait([cancelling])
        cancelling.cancel()

    summary = run.summary
    write = sql.SQL("select etl.publish({}, {}, {})").format(run.id, built, hashes_rows)
    try:
        async with transaction(lead, write):
            await settle()
            if not await checked:
                raise Rollback
            # All who see that it has succeeded see all that it did.
            summary = await save_run(lead, run, "succeeded")
            if summary["state"] != "succeeded":
                raise ServiceFault(f"publish: the run has ended: {summary['state']}")
            run.is_committing = True
        run.summary = summary
        run.to_vacuum.add("features")
    except psycopg.errors.ForeignKeyViolation as error:
        raise DataFault(
            f"publish: {one_line(error)} A foreign key to features must be "
            "deferrable, and the rows it refers to must be in the new features."
        ) from error
    except (DataError, IntegrityError) as error:
        raise DataFault(f"publish: {one_line(error)}") from error
    finally:
        await settle()


async def publish_same(run: Run, lead: AsyncConnection, hashes_rows: bool) -> None:
    """Publish nothing, since features has these rows already; a digest of the files of
    data and SQL may still differ. The run then has succeeded.
    """
    update = sql.SQL("select etl.publish_same({}, {})").format(run.id, hashes_rows)
    await succeed(run, lead, update)


async def publish_nothing(run: Run, lead: AsyncConnection) -> None:
    """Save what a dry run would have changed. The run then has succeeded."""
    save = sql.SQL("select etl.save_changes({})").format(run.id)
    await succeed(run, lead, save)


async def succeed(run: Run, lead: AsyncConnection, statement: sql.Composed) -> None:
    """Record the success of a run in one transaction, after a ``statement``.

    The results of SQL files go with it. Another connection than the leader's could save
    them after a crash of Postgres, which empties the tables that they are about.
    """
    async with transaction(lead, statement):
        summary = await save_run(lead, run, "succeeded")
        run.is_committing = True
    run.summary = summary
