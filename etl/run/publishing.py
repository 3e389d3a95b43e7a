"""The one transaction that replaces the rows of features by those that were built, and
the one with which other runs succeed.
"""

from __future__ import annotations

from collections.abc import Awaitable

from psycopg import AsyncConnection, DataError, IntegrityError, sql
from psycopg.errors import ForeignKeyViolation

from etl.errors import DataFault, ServiceFault
from etl.postgres.sqlerrors import one_line
from etl.postgres.transactions import transaction
from etl.run.records import Run, save_run


async def publish(
    run: Run,
    lead: AsyncConnection,
    built: str,
    hashes_rows: bool,
    checked: Awaitable[None],
) -> None:
    """Write the rows in one transaction, and commit it when all is ``checked``.

    ``built`` is the version of what was built; with ``hashes_rows`` the digest of the
    content counts the rows in, since they depend on more than files and SQL. Raises
    RunFault.
    """
    write = sql.SQL("select etl.publish({}, {}, {})").format(run.id, built, hashes_rows)
    run.to_vacuum.add("features")  # also what is rolled back leaves dead rows
    try:
        await succeed(run, lead, write, checked)
    except ForeignKeyViolation as error:
        raise DataFault(
            f"publish: {one_line(error)} A foreign key to features must be "
            "deferrable, and the rows it refers to must be in the new features."
        ) from error
    except (DataError, IntegrityError) as error:
        raise DataFault(f"publish: {one_line(error)}") from error


async def succeed(
    run: Run,
    lead: AsyncConnection,
    statement: sql.Composed,
    checked: Awaitable[None] | None = None,
) -> None:
    """Record the success of a run in one transaction, after a ``statement``, and when
    all is ``checked``. All who see that it has succeeded see all that it did.

    The results of SQL files go with it. Another connection than the leader's could save
    them after a crash of Postgres, which empties the tables that they are about.
    """
    async with transaction(lead, statement):
        if checked:
            await checked
        summary = await save_run(lead, run, "succeeded")
        if summary["state"] != "succeeded":
            raise ServiceFault(f"publish: the run has ended: {summary['state']}")
        run.is_committing = True
    run.summary = summary
