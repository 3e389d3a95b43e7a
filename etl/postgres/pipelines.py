"""Which database holds which pipeline, and the reason is in docs/decisions/0012.

Knows a pipeline by the path of its SQL folder and by the hashes of its schema files,
and nothing of what they hold.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from etl.settings import PROJECT, Settings
from etl.sqlfiles import SqlFileError, read_folder

#: The SQL folder of the project's own pipeline, that pipeline's name, and its database
#: in an embedded cluster: the one that initdb creates.
OWN_SQL, OWN_NAME, OWN_DATABASE = PROJECT / "sql", "features-etl", "postgres"

#: How the comment of an embedded database that holds a pipeline begins. The path of its
#: SQL folder follows, seen from the folder that holds STATE_DIR: so it stays true when
#: both are moved together.
COMMENT = "features-etl pipeline: "

#: The advisory lock of those who look for their database, beside the locks 1 to 3.
LOCK = (6648940, 4)

#: A database's name has 63 bytes; this leaves room for a number behind it.
MAX_NAME_BYTES = 58

log = logging.getLogger(__name__)


def pipeline_name(sql_dir: Path) -> str:
    """What people call the pipeline: the folder that holds ``sql/``, by its name."""
    path = sql_dir.resolve()
    if path == OWN_SQL.resolve():
        return OWN_NAME
    return (path.parent.name if path.name == "sql" else path.name) or path.name


async def embedded_database(
    connection: AsyncConnection, settings: Settings, *, create: bool
) -> str | None:
    """The database of the pipeline in an embedded cluster.

    ``connection`` is to the cluster's database ``postgres``, and autocommit. Where the
    pipeline has no database it is created, or the answer is None.
    """
    await connection.execute("select pg_advisory_lock(%s, %s)", LOCK)
    try:
        location = _location(settings)
        databases = await _databases(connection)
        is_own = settings.sql_dir.resolve() == OWN_SQL.resolve()
        if is_own and databases[OWN_DATABASE] is None:
            return OWN_DATABASE
        wanted = _database_name(pipeline_name(settings.sql_dir))
        found = await _find(connection, settings, databases, location, wanted)
        if found is None and create:
            found = _unused(wanted, databases)
            await connection.execute(
                sql.SQL("create database {}").format(sql.Identifier(found))
            )
            log.info("created the database %s for %s", found, settings.sql_dir)
        if found is not None and create and databases.get(found) != location:
            await connection.execute(
                sql.SQL("comment on database {} is {}").format(
                    sql.Identifier(found), COMMENT + location
                )
            )
        return found
    finally:
        await connection.execute("select pg_advisory_unlock(%s, %s)", LOCK)


def _location(settings: Settings) -> str:
    """Where the SQL is, seen from the folder that holds STATE_DIR."""
    base = settings.state_dir.resolve().parent
    return os.path.relpath(settings.sql_dir.resolve(), base)


async def _databases(connection: AsyncConnection) -> dict[str, str | None]:
    """The cluster's databases, each with the location of its pipeline or None."""
    rows = await connection.execute(
        "select datname, shobj_description(oid, 'pg_database') from pg_database"
        " where datallowconn and not datistemplate order by datname"
    )
    return {
        name: comment.removeprefix(COMMENT)
        if comment and comment.startswith(COMMENT)
        else None
        for name, comment in await rows.fetchall()
    }


async def _find(
    connection: AsyncConnection,
    settings: Settings,
    databases: Mapping[str, str | None],
    location: str,
    wanted: str,
) -> str | None:
    """The database whose comment names this location; or one that this pipeline left
    behind when it was moved, or before databases had such comments."""
    for name, held in databases.items():
        if held == location:
            return name
    base = settings.state_dir.resolve().parent
    files, own_files = _schema_files(settings.sql_dir), _schema_files(OWN_SQL)
    for name, held in databases.items():
        if held is None and name not in (wanted, OWN_DATABASE):
            continue
        if held is not None and (base / held).is_dir():
            continue
        applied = await _applied_in(connection, name)
        if name == OWN_DATABASE and (
            not applied or applied.items() & own_files.items()
        ):
            continue
        if not applied and held is not None:
            continue
        if applied.items() <= files.items():
            return name
    return None


async def _applied_in(connection: AsyncConnection, database: str) -> dict[str, str]:
    """The schema files of a pipeline that another database of the cluster has."""
    conninfo = make_conninfo(connection.info.dsn, dbname=database)
    async with await AsyncConnection.connect(conninfo, autocommit=True) as other:
        return await _applied(other)


async def _applied(connection: AsyncConnection) -> dict[str, str]:
    if not await _has_table(connection, "etl.applied"):
        return {}
    rows = await connection.execute(
        "select file, sha256 from etl.applied where folder = 'pipeline'"
    )
    return dict(await rows.fetchall())


async def _has_table(connection: AsyncConnection, name: str) -> bool:
    found = await connection.execute("select to_regclass(%s) is not null", [name])
    return await found.fetchone() == (True,)


def _schema_files(sql_dir: Path) -> dict[str, str]:
    return {file.name: file.sha256 for file in read_folder(sql_dir / "schema")}


def _database_name(name: str) -> str:
    """A folder's name as that of a database: lower case, no punctuation."""
    words = re.sub(r"\W+", "_", name.lower()).strip("_")
    return words.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "pipeline"


def _unused(name: str, databases: Mapping[str, str | None]) -> str:
    taken = {*databases, "template0", "template1"}
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(each for each in names if each not in taken)


async def refuse_another_pipeline(connection: AsyncConnection, sql_dir: Path) -> None:
    """Raise SqlFileError where the database holds another pipeline.

    A schema file that was merely changed or removed is left to the caller.
    """
    name, held = pipeline_name(sql_dir), await _recorded_name(connection)
    applied, files = await _applied(connection), _schema_files(sql_dir)
    differing = sorted(file for file in applied if applied[file] != files.get(file))
    unchanged = len(applied) - len(differing)
    if differing and (
        (unchanged == 0 and len(applied) > 1)
        or (held != name and 2 * unchanged < len(applied))
    ):
        what = f"the pipeline {held}" if held else "another pipeline"
        raise SqlFileError(
            f"the database {connection.info.dbname} holds {what} "
            f"({await _sources(connection)}) and not that of {sql_dir}: its "
            f"schema/{differing[0]} is another file; use another database (or "
            "STATE_DIR), or start the pipeline that this one holds"
        )


async def record_pipeline(connection: AsyncConnection, sql_dir: Path) -> None:
    """Record the name of the pipeline, once its schema is up to date."""
    name, held = pipeline_name(sql_dir), await _recorded_name(connection)
    if held == name:
        return
    if held is not None:
        log.warning(
            "the database %s held the pipeline %s, whose schema files are the same: "
            "from now on it holds %s",
            *(connection.info.dbname, held, name),
        )
    await connection.execute("update etl.pipeline set name = %s", [name])


async def _recorded_name(connection: AsyncConnection) -> str | None:
    if not await _has_table(connection, "etl.pipeline"):
        return None
    found = await connection.execute("select name from etl.pipeline")
    (name,) = await found.fetchone() or (None,)
    return str(name) if name else None


async def _sources(connection: AsyncConnection) -> str:
    """The CSV files that a database has tables for."""
    found = await connection.execute(
        "select string_agg(relname || '.csv', ', ' order by relname) from pg_class"
        " where relnamespace = to_regnamespace('staging') and relkind in ('r', 'p')"
    )
    (files,) = await found.fetchone() or (None,)
    return str(files or "no file")
