"""Brings a database's schema up to date: each schema file once, in order, frozen.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from psycopg import AsyncConnection

from etl.sqlfiles import SqlFile, SqlFileError, read_folder

#: The engine's own schema, next to this module.
ENGINE_SCHEMA = Path(__file__).parent / "schema"

#: The advisory lock of starters; locks 1 and 2 of this class are told in 002_runs.sql.
LOCK = (6648940, 3)

log = logging.getLogger(__name__)


async def migrate(connection: AsyncConnection, sql_dir: Path) -> None:
    """Apply the schema files that this database lacks; ``connection`` is autocommit.

    The engine's files come first, then those of ``sql_dir/schema``. Each file and its
    row in ``etl.applied`` are one transaction. Starters on one database take turns.
    Raises SqlFileError where an applied file was changed or removed.
    """
    await connection.execute("select pg_advisory_lock(%s, %s)", LOCK)
    try:
        for folder, files in (
            ("engine", read_folder(ENGINE_SCHEMA)),
            ("pipeline", read_folder(sql_dir / "schema")),
        ):
            applied = await _applied(connection, folder)
            _refuse_changes(files, applied)
            for file in files:
                if file.name not in applied:
                    await _apply(connection, folder, file)
    finally:
        await connection.execute("select pg_advisory_unlock(%s, %s)", LOCK)


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


async def _apply(connection: AsyncConnection, folder: str, file: SqlFile) -> None:
    async with connection.transaction():
        await connection.execute(file.text.encode())
        await connection.execute(
            "insert into etl.applied (folder, file, sha256) values (%s, %s, %s)",
            [folder, file.name, file.sha256],
        )
    log.info("applied %s", file.path)
