"""Brings a database's schema up to date: each schema file once, in order, frozen; and
functions whenever their file has changed.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from etl.postgres.pipelines import record_pipeline, refuse_another_pipeline
from etl.postgres.sqlerrors import NO_STATEMENT, describe, had_no_statement, is_lost
from etl.settings import PROJECT
from etl.sqlfiles import SqlFile, SqlFileError, read_folder

#: The engine's own files: its tables; its functions, views and triggers; and what
#: brings tables of an earlier layout to this one.
ENGINE_SCHEMA, ENGINE_FUNCTIONS, FOLDED = (
    PROJECT / "etl" / folder for folder in ("schema", "functions", "folded")
)

#: A file that only the earlier layout had, and the file of today's that it comes to.
ONCE_THERE, FOLDED_TO = "003_publish.sql", "005_rules.sql"

#: The advisory locks of the start that changes the schema, and of the connection that
#: leads a run: etl/functions/010_runs.sql takes that one, and lock 2.
LOCK, RUN_LOCK = (6648940, 3), (6648940, 1)

#: Seconds that a start waits for the end of another start, and then of a run.
WAIT_SECONDS = 600

#: Seconds for which readers may queue behind a view that is to be replaced while others
#: still read through it, and times that this is tried.
LOCK_SECONDS, TRIES = 1, 30

#: What every pipeline's schema files make, as a query for what is missing.
MISSING = """
    select 'schema staging' where to_regnamespace('staging') is null
    union all
    select 'table ' || needed.name
    from unnest(array['features', 'features_next']) as needed (name)
    where not exists (
        select from pg_class
        where oid = to_regclass(needed.name) and relkind in ('r', 'p')
    )
"""

log = logging.getLogger(__name__)


class SchemaChanged(SqlFileError):
    """The schema files are not those that were applied to this database."""


class SchemaInUse(RuntimeError):
    """The schema cannot be changed; the message is one line that says why."""


async def migrate(connection: AsyncConnection, sql_dir: Path) -> None:
    """Apply the schema files that this database lacks; ``connection`` is autocommit.

    The engine's files come first, then its functions that have changed, or all of them
    after a new schema file, then ``sql_dir/schema``. Each schema file and its row in
    ``etl.applied`` are one transaction, and so are the functions, and the first files
    of a schema: those that fail leave nothing that must not be changed any more.

    Where there is something to apply, it waits for the start of another server and for
    the end of a run, and no run begins meanwhile. Raises SchemaChanged where an applied
    schema file was changed or removed, SqlFileError where one of the pipeline fails,
    all of them do not make what a pipeline needs, or the database holds another one,
    and SchemaInUse where it has waited for ``WAIT_SECONDS``.
    """
    tables, functions = read_folder(ENGINE_SCHEMA), read_folder(ENGINE_FUNCTIONS)
    pipeline = read_folder(sql_dir / "schema")
    folders = {"engine": tables, "functions": functions, "pipeline": pipeline}
    await refuse_another_pipeline(connection, sql_dir)
    if not await _is_current(connection, folders):
        async with (
            _locked(connection, LOCK, "the start of another server"),
            _locked(connection, RUN_LOCK, "the run in progress"),
        ):
            await _apply_new(connection, "engine", tables)
            await _apply_changed(connection, "functions", functions)
            await _apply_new(connection, "pipeline", pipeline)
    if missing := await _missing(connection):
        raise SchemaChanged(
            f"this database has lost the {' and the '.join(missing)}, which its "
            "schema files made: restore what is lost"
        )
    await record_pipeline(connection, sql_dir)


async def _is_current(
    connection: AsyncConnection, folders: Mapping[str, Sequence[SqlFile]]
) -> bool:
    """Whether all these files were applied, so that there is nothing to wait for.

    Raises SchemaChanged, which must not wait either.
    """
    is_current = True
    for folder, files in folders.items():
        applied = await _applied(connection, folder)
        if folder == "engine" and ONCE_THERE in applied:
            return False
        if folder != "functions":
            _refuse_changes(folder, files, applied)
        is_current &= all(applied.get(file.name) == file.sha256 for file in files)
    return is_current


async def is_migrating(connection: AsyncConnection) -> bool:
    """Whether a start changes the schema right now, so that no run can begin."""
    rows = await connection.execute(
        "select from pg_locks inner join pg_database on database = pg_database.oid"
        " where datname = current_database() and locktype = 'advisory' and granted"
        " and (classid, objid) in ((%s, %s), (%s, %s))"
        " group by pid having count(*) = 2",
        [*LOCK, *RUN_LOCK],
    )
    return await rows.fetchone() is not None


@asynccontextmanager
async def _locked(
    connection: AsyncConnection, lock: tuple[int, int], holder: str
) -> AsyncIterator[None]:
    """Hold an advisory lock while in here; ``holder`` says who may have it before."""
    tried = await connection.execute("select pg_try_advisory_lock(%s, %s)", lock)
    if await tried.fetchone() == (False,):
        log.warning(
            "waiting up to %d s for the end of %s: the schema is to be changed",
            *(WAIT_SECONDS, holder),
        )
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{WAIT_SECONDS}s'")
                await connection.execute("select pg_advisory_lock(%s, %s)", lock)
        except LockNotAvailable:
            raise SchemaInUse(
                f"the schema is to be changed, and {holder} has not ended within "
                f"{WAIT_SECONDS} s: start again when it has"
            ) from None
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("select pg_advisory_unlock(%s, %s)", lock)


async def _leave_earlier_layout(
    connection: AsyncConnection, tables: Sequence[SqlFile]
) -> None:
    """Bring a database that has the files of the earlier layout to those of today."""
    applied = await _applied(connection, "engine")
    if ONCE_THERE not in applied:
        return
    (folded,) = read_folder(FOLDED)
    if max(applied) != folded.name:
        raise SchemaChanged(
            f"this database ends with the engine's file {max(applied)}, and only one "
            f"that ends with {folded.name} can be brought along: start the version of "
            "the service that has this file on it once"
        )
    async with connection.transaction():
        await connection.execute(folded.text.encode())
        await _forget(connection, "engine")
        for file in tables:
            if file.name <= FOLDED_TO:
                await _note(connection, "engine", file)
    log.info("applied %s", folded.path)


async def _apply_new(
    connection: AsyncConnection, folder: str, files: Sequence[SqlFile]
) -> None:
    """Apply the files of a schema that the database lacks."""
    applied = await _applied(connection, folder)
    _refuse_changes(folder, files, applied)
    new = [file for file in files if file.name not in applied]
    for group in [[file] for file in new] if applied else [new]:
        async with connection.transaction():
            for file in group:
                await _apply(connection, folder, file)
            if folder == "engine":  # it may drop what functions hang on
                await _forget(connection, "functions")
            elif missing := await _missing(connection):
                names = " and the ".join(missing)
                raise SqlFileError(
                    f"SQL_DIR: no file in schema makes the {names}: a pipeline needs "
                    "the schema staging, with a table for each CSV file, and the "
                    "tables features and features_next"
                )


async def _missing(connection: AsyncConnection) -> list[str]:
    """What a pipeline needs and this database lacks."""
    await connection.execute("reset search_path")  # which files may have set
    rows = await connection.execute(MISSING)
    return [name for (name,) in await rows.fetchall()]


async def _apply_changed(
    connection: AsyncConnection, folder: str, files: Sequence[SqlFile]
) -> None:
    """Apply the files that changed since they were applied, as one."""
    applied = await _applied(connection, folder)
    changed = [file for file in files if applied.get(file.name) != file.sha256]
    for tries_left in reversed(range(TRIES if changed else 0)):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
                for file in changed:
                    await _apply(connection, folder, file)
            break
        except LockNotAvailable:
            if not tries_left:
                raise
            log.info("waits for who reads %s", folder)
            await asyncio.sleep(LOCK_SECONDS)


async def _applied(connection: AsyncConnection, folder: str) -> dict[str, str]:
    """The names of the files that were applied, with their hashes."""
    found = await connection.execute("select to_regclass('etl.applied') is not null")
    if await found.fetchone() == (False,):
        return {}
    rows = await connection.execute(
        "select file, sha256 from etl.applied where folder = %s order by file", [folder]
    )
    return dict(await rows.fetchall())


def _refuse_changes(
    folder: str, files: Iterable[SqlFile], applied: dict[str, str]
) -> None:
    schema = "etl/schema" if folder == "engine" else "schema"
    present = {file.name: file for file in files}
    for name, sha256 in applied.items():
        if name not in present:
            raise SchemaChanged(
                f"{schema}/{name} was applied to this database and is gone: put it back"
            )
        if present[name].sha256 != sha256:
            raise SchemaChanged(
                f"{schema}/{name} was changed after it was applied to this database "
                f"(SHA-256 {sha256[:12]}… then, {present[name].sha256[:12]}… now): "
                "put it back, and make the change in a new file"
            )
    missing = sorted(present.keys() - applied.keys())
    if missing and applied and missing[0] < max(applied):
        raise SchemaChanged(
            f"{schema}/{missing[0]} stands before {max(applied)}, which was applied "
            "already: give it a later number"
        )


async def _apply(connection: AsyncConnection, folder: str, file: SqlFile) -> None:
    try:
        cursor = await connection.execute(file.text.encode())
    except psycopg.Error as error:
        if folder != "pipeline" or is_lost(error):
            raise
        if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            await connection.close()  # in the middle of a COPY, which nobody ends
        raise SqlFileError(describe(file, error)) from error
    if had_no_statement(cursor):
        raise SqlFileError(f"{file.path} {NO_STATEMENT}")
    await _note(connection, folder, file)
    log.info("applied %s", file.path)


async def _note(connection: AsyncConnection, folder: str, file: SqlFile) -> None:
    await connection.execute(
        "insert into etl.applied (folder, file, sha256) values (%s, %s, %s)"
        " on conflict (folder, file)"
        " do update set sha256 = excluded.sha256, applied_at = excluded.applied_at",
        [folder, file.name, file.sha256],
    )


async def _forget(connection: AsyncConnection, folder: str) -> None:
    await connection.execute("delete from etl.applied where folder = %s", [folder])
