"""Brings a database's schema up to date: each schema file once, in order, frozen; and
functions whenever one of their files has changed.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from psycopg import AsyncConnection

from etl.sqlfiles import SqlFile, SqlFileError, read_folder

#: The engine's own files, next to this module: its tables; its functions, views and
#: triggers; and what brings tables of an earlier layout to this one.
ENGINE_SCHEMA, ENGINE_FUNCTIONS, FOLDED = (
    Path(__file__).parent / folder for folder in ("schema", "functions", "folded")
)

#: The advisory lock of starters; etl/functions/010_runs.sql has locks 1 and 2.
LOCK = (6648940, 3)

log = logging.getLogger(__name__)


async def migrate(connection: AsyncConnection, sql_dir: Path) -> None:
    """Apply the schema files that this database lacks; ``connection`` is autocommit.

    The engine's files come first, then its functions that have changed, all of them
    after a new schema file, then ``sql_dir/schema``. Each schema file and its row in
    ``etl.applied`` are one transaction, and so are the functions. Starters on one
    database take turns. Raises SqlFileError where an applied schema file was changed
    or removed.
    """
    await connection.execute("select pg_advisory_lock(%s, %s)", LOCK)
    try:
        tables = read_folder(ENGINE_SCHEMA)
        await _leave_earlier_layout(connection, tables)
        changed = await _apply_new(connection, "engine", tables)
        functions = read_folder(ENGINE_FUNCTIONS)
        applied = await _applied(connection, "functions")
        stale = [
            file
            for file in functions
            if changed or applied.get(file.name) != file.sha256
        ]
        if stale:
            await _replace(connection, "functions", stale, functions)
        await _apply_new(connection, "pipeline", read_folder(sql_dir / "schema"))
    finally:
        await connection.execute("select pg_advisory_unlock(%s, %s)", LOCK)


async def _leave_earlier_layout(
    connection: AsyncConnection, tables: Sequence[SqlFile]
) -> None:
    """Bring a database that has the files of an earlier layout to those of today."""
    applied = await _applied(connection, "engine")
    for file in read_folder(FOLDED):
        if applied and max(applied) == file.name:
            await _replace(connection, "engine", [file], tables)


async def _apply_new(
    connection: AsyncConnection, folder: str, files: Sequence[SqlFile]
) -> bool:
    """Apply the files of a schema that the database lacks; whether there are any."""
    applied = await _applied(connection, folder)
    _refuse_changes(files, applied)
    new = [file for file in files if file.name not in applied]
    for file in new:
        async with connection.transaction():
            await _apply(connection, file)
            await _note(connection, folder, file)
    return bool(new)


async def _replace(
    connection: AsyncConnection,
    folder: str,
    files: Sequence[SqlFile],
    noted: Sequence[SqlFile],
) -> None:
    """Apply files as one, and have these ``noted`` in the place of those before."""
    async with connection.transaction():
        for file in files:
            await _apply(connection, file)
        await connection.execute("delete from etl.applied where folder = %s", [folder])
        for file in noted:
            await _note(connection, folder, file)


async def _applied(connection: AsyncConnection, folder: str) -> dict[str, str]:
    """The names of the files that were applied, with their hashes."""
    found = await connection.execute("select to_regclass('etl.applied') is not null")
    if await found.fetchone() == (False,):
        return {}
    rows = await connection.execute(
        "select file, sha256 from etl.applied where folder = %s order by file", [folder]
    )
    return dict(await rows.fetchall())


def _refuse_changes(files: Iterable[SqlFile], applied: dict[str, str]) -> None:
    present = {file.name: file for file in files}
    for name, sha256 in applied.items():
        if name not in present:
            raise SqlFileError(
                f"schema/{name} was applied to this database and is gone: put it back"
            )
        if present[name].sha256 != sha256:
            raise SqlFileError(
                f"schema/{name} was changed after it was applied to this database "
                f"(SHA-256 {sha256[:12]}… then, {present[name].sha256[:12]}… now): "
                "put it back, and make the change in a new file"
            )
    missing = sorted(present.keys() - applied.keys())
    if missing and applied and missing[0] < max(applied):
        raise SqlFileError(
            f"schema/{missing[0]} stands before {max(applied)}, which was applied "
            "already: give it a later number"
        )


async def _apply(connection: AsyncConnection, file: SqlFile) -> None:
    await connection.execute(file.text.encode())
    log.info("applied %s", file.path)


async def _note(connection: AsyncConnection, folder: str, file: SqlFile) -> None:
    await connection.execute(
        "insert into etl.applied (folder, file, sha256) values (%s, %s, %s)",
        [folder, file.name, file.sha256],
    )
