"""Brings a database's schema up to date: each schema file once, in order, and the
engine's functions whenever one of their files has changed.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from etl.postgres.sqlerrors import NO_STATEMENT, describe, had_no_statement, is_lost
from etl.settings import PROJECT
from etl.sqlfiles import SqlFile, SqlFileError, read_folder

#: The engine's tables; and its functions, views and triggers.
ENGINE_SCHEMA, ENGINE_FUNCTIONS = PROJECT / "etl/schema", PROJECT / "etl/functions"

#: The folders whose files are applied once, as the ledger calls them, and their paths.
FROZEN = {"engine": "etl/schema", "pipeline": "schema", "citus": "citus"}

#: The advisory locks of the start that changes the schema, and of the connection that
#: leads a run: etl/functions/010_runs.sql takes that one, and lock 2.
LOCK, RUN_LOCK = (6648940, 3), (6648940, 1)

#: Seconds that a start waits for the end of another start, and then of a run.
WAIT_SECONDS = 600

#: Seconds for which readers may queue behind a table or view that is to be changed
#: while others still read it, and how often that is tried.
LOCK_SECONDS, TRIES = 1, 30

#: What every pipeline's schema files make, as a query for what is missing.
MISSING = """
    select 'schema staging' where to_regnamespace('staging') is null
    union all
    select 'table ' || name
    from unnest(array['features', 'features_next']) as needed (name)
    where to_regclass(name) is null
"""

#: The CSV files of the pipeline that a database holds.
SOURCES = """
    select coalesce(string_agg(relname || '.csv', ', ' order by relname), 'no file')
    from pg_class
    where relnamespace = to_regnamespace('staging') and relkind in ('r', 'p')
"""

#: Whether tables can be distributed.
HAS_CITUS = "select exists (select 1 from pg_extension where extname = 'citus')"

log = logging.getLogger(__name__)


class SchemaChanged(SqlFileError):
    """The schema files are not those that were applied to this database."""


async def migrate(connection: AsyncConnection, sql_dir: Path) -> None:
    """Apply the schema files that this database lacks; ``connection`` is autocommit.

    The engine's files come first, then its functions that have changed, or all of them
    after a new schema file, then ``sql_dir/schema``, then ``sql_dir/citus`` where the
    database has that extension. All of it is one transaction with the rows of
    ``etl.applied``: files that fail leave nothing behind.

    Where there is something to apply, it waits for the start of another server and for
    the end of a run, and no run begins meanwhile. Raises SchemaChanged where an applied
    schema file was changed or is missing, SqlFileError where one of the pipeline fails,
    all of them do not make what a pipeline needs, or the database holds another one,
    and TimeoutError where it has waited for ``WAIT_SECONDS``: each with one line.
    """
    folders = {
        "engine": read_folder(ENGINE_SCHEMA),
        "functions": read_folder(ENGINE_FUNCTIONS),
        "pipeline": read_folder(sql_dir / "schema"),
    }
    if await _is_true(connection, HAS_CITUS):
        folders["citus"] = read_folder(sql_dir / "citus")
    await _refuse_another_pipeline(connection, sql_dir, folders["pipeline"])
    if not any((await _pending(connection, folders)).values()):
        await _require_tables(connection)
        return
    try:
        await _lock(connection, LOCK, "the start of another server")
        await _lock(connection, RUN_LOCK, "the run in progress")
        await _apply_pending(connection, folders)
    finally:
        with suppress(psycopg.Error):  # of a connection that is gone
            await connection.execute("select pg_advisory_unlock_all()")


async def is_migrating(connection: AsyncConnection) -> bool:
    """Whether a start changes the schema right now, so that no run can begin."""
    rows = await connection.execute(
        "select 1 from pg_locks inner join pg_database on database = pg_database.oid"
        " where datname = current_database() and locktype = 'advisory' and granted"
        " and (classid, objid) in ((%s, %s), (%s, %s))"
        " group by pid having count(*) = 2",
        [*LOCK, *RUN_LOCK],
    )
    return await rows.fetchone() is not None


async def _lock(
    connection: AsyncConnection, lock: tuple[int, int], holder: str
) -> None:
    """Take an advisory lock of the session; ``holder`` says who may have it before.

    Not of the transaction that applies the files: in that, the server would not see for
    sure what another start has committed while this one waited.
    """
    tried = await connection.execute("select pg_try_advisory_lock(%s, %s)", lock)
    if await tried.fetchone() == (True,):
        return
    log.warning(
        "waiting up to %d s for the end of %s: the schema is to be changed",
        *(WAIT_SECONDS, holder),
    )
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = '{WAIT_SECONDS}s'")
            await connection.execute("select pg_advisory_lock(%s, %s)", lock)
    except LockNotAvailable:
        raise TimeoutError(
            f"the schema is to be changed, and {holder} has not ended within "
            f"{WAIT_SECONDS} s: start again when it has"
        ) from None


async def _is_true(connection: AsyncConnection, query: LiteralString) -> bool:
    rows = await connection.execute(query)
    return await rows.fetchone() == (True,)


async def _applied(connection: AsyncConnection) -> dict[str, dict[str, str]]:
    """The files that were applied, by folder and name, with their hashes."""
    applied: dict[str, dict[str, str]] = defaultdict(dict)
    if await _is_true(connection, "select to_regclass('etl.applied') is not null"):
        rows = await connection.execute(
            "select folder, file, sha256 from etl.applied order by file"
        )
        for folder, name, sha256 in await rows.fetchall():
            applied[folder][name] = sha256
    return applied


async def _refuse_another_pipeline(
    connection: AsyncConnection, sql_dir: Path, files: Sequence[SqlFile]
) -> None:
    """Raise SqlFileError where no applied file is in the folder.

    A single one that has only been changed is no sign of another pipeline.
    """
    applied = (await _applied(connection))["pipeline"]
    present = {file.name: file.sha256 for file in files}
    if not applied or applied.items() & present.items():
        return
    if len(applied) > 1 or not applied.keys() & present.keys():
        rows = await connection.execute(SOURCES)
        (sources,) = await rows.fetchone() or (None,)
        raise SqlFileError(
            f"the database {connection.info.dbname} holds another pipeline ({sources}) "
            f"and not that of {sql_dir}: use another database (or STATE_DIR), or start "
            "that pipeline"
        )


async def _pending(
    connection: AsyncConnection, folders: Mapping[str, Sequence[SqlFile]]
) -> dict[str, list[SqlFile]]:
    """The files that are to be applied; raises where schema files were changed."""
    applied = await _applied(connection)
    for folder, path in FROZEN.items():
        _refuse_changes(path, folders.get(folder, ()), applied[folder])
    pending = {
        folder: [
            file for file in files if applied[folder].get(file.name) != file.sha256
        ]
        for folder, files in folders.items()
    }
    if pending["engine"]:  # they may drop what functions depend on
        pending["functions"] = list(folders["functions"])
    return pending


def _refuse_changes(
    folder: str, files: Sequence[SqlFile], applied: Mapping[str, str]
) -> None:
    present = {file.name: file.sha256 for file in files}
    for name, sha256 in applied.items():
        if name not in present:
            raise SchemaChanged(
                f"this database is of a newer version: {folder}/{name} was applied to "
                "it, and this version does not have that file"
            )
        if present[name] != sha256:
            raise SchemaChanged(
                f"{folder}/{name} was changed after it was applied to this database "
                f"(SHA-256 {sha256[:12]}… then, {present[name][:12]}… now): "
                "undo that, and make the change in a new file"
            )
    for name in present.keys() - applied.keys():
        if applied and name < max(applied):
            raise SchemaChanged(
                f"{folder}/{name} comes before {max(applied)}, which was already "
                "applied: give it a later number"
            )


async def _apply_pending(
    connection: AsyncConnection, folders: Mapping[str, Sequence[SqlFile]]
) -> None:
    """Apply what is pending, as one; again where readers kept it from a lock."""
    for tries_left in reversed(range(TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
                for folder, files in (await _pending(connection, folders)).items():
                    if folder == "citus" and files:
                        await connection.execute("select etl.unguard_tables()")
                    for file in files:
                        await _apply(connection, folder, file)
                await _require_tables(connection)
                await connection.execute("select etl.guard_tables()")
            return
        except LockNotAvailable:
            if not tries_left:
                raise
            log.info("waiting for readers of what the schema files change")
            await asyncio.sleep(LOCK_SECONDS)


async def _apply(connection: AsyncConnection, folder: str, file: SqlFile) -> None:
    try:
        cursor = await connection.execute(file.text.encode())
    except psycopg.Error as error:
        if (
            folder not in ("pipeline", "citus")
            or is_lost(error)
            or isinstance(error, LockNotAvailable)
        ):
            raise
        if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            await connection.close()  # it waits for the rows of a COPY
        raise SqlFileError(describe(file, error)) from error
    if had_no_statement(cursor):
        raise SqlFileError(f"{file.path} {NO_STATEMENT}")
    await connection.execute(
        "insert into etl.applied (folder, file, sha256) values (%s, %s, %s)"
        " on conflict (folder, file)"
        " do update set sha256 = excluded.sha256, applied_at = excluded.applied_at",
        [folder, file.name, file.sha256],
    )
    log.info("applied %s", file.path)


async def _require_tables(connection: AsyncConnection) -> None:
    """Raise SqlFileError where a pipeline lacks what each one needs."""
    await connection.execute("reset search_path")  # which files may have set
    rows = await connection.execute(MISSING)
    if missing := [name for (name,) in await rows.fetchall()]:
        raise SqlFileError(
            f"this database has no {' and no '.join(missing)}: the schema files of a "
            "pipeline make the schema staging, with a table for each CSV file, and the "
            "tables features and features_next"
        )
