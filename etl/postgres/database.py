"""Which database the service uses, on a named or the embedded Postgres, and its pools.

Knows how to get a connection that is fit for its work, and nothing of that work.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from os.path import relpath

import psycopg
from psycopg import AsyncConnection, OperationalError, pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import etl
from etl.postgres import embedded
from etl.postgres.folders import home_folder
from etl.postgres.migrations import SchemaChanged, migrate
from etl.postgres.pools import RUN_SETTINGS, Pool, configure, reset_session
from etl.postgres.roles import make_reader, reading_as
from etl.postgres.sqlerrors import one_line
from etl.settings import LIBPQ_DETAILS, PROJECT, Settings
from etl.sqlfiles import read_pipeline

#: 16 brought pg_input_is_valid.
MIN_VERSION = 160000

#: Seconds that a start waits for a database that is unavailable.
START_WAIT_SECONDS = 60

#: Connections that read ``features``, and those that read what the service knows of
#: itself. A table that somebody has locked keeps all of the first waiting, and none of
#: the others.
MIN_READERS, MAX_READERS, MAX_RECORDS = 2, 20, 4

#: The part of the disk, as free as at the start of an embedded Postgres, that temporary
#: files of one connection that reads may fill: those of all such connections half.
TEMPORARY_PART = 2 * MAX_READERS

#: The project's own pipeline has the database that initdb creates.
OWN_SQL, OWN_DATABASE = PROJECT / "sql", "postgres"

#: How the comment of an embedded database begins that holds a pipeline. The path of its
#: SQL folder follows, relative to the folder that holds STATE_DIR: so both may be moved
#: together.
COMMENT = "features-etl pipeline: "

#: The advisory lock of a start that looks for its database, beside the locks 1 to 3.
DATABASE_LOCK = (6648940, 4)

#: What a server says that refuses us: waiting does not help.
REFUSALS = (
    *("authentication failed", "no password supplied", "no pg_hba.conf entry"),
    *("does not exist", "permission denied", "invalid ", "definition of service"),
)

log = logging.getLogger(__name__)


class DatabaseError(RuntimeError):
    """The database cannot be used; the message is one line that says why."""


class MissingDatabase(DatabaseError):
    """The pipeline has no database on the embedded Postgres yet."""


@dataclass(frozen=True)
class Database:
    """Where the database is, and a pool for each kind of work.

    ``readers`` read rows of ``features``, or rejects; ``records`` all else that
    requests ask for: runs, columns, versions. ``runners`` work for runs: one leads,
    others load and build, one may still vacuum after the run before, and one checks
    that a run can begin. All are autocommit. ``location`` is for messages, without the
    password.
    """

    location: str
    readers: Pool
    records: Pool
    runners: Pool


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Start or find the database, bring its schema up to date, and open the pools.

    Raises DatabaseError, EmbeddedError or SqlFileError, each one clear line; for files
    that cannot be used, before anything is started.
    """
    read_pipeline(settings.sql_dir)
    async with serving_postgres(settings) as conninfo:
        reading = await _prepare(conninfo, settings)
        workers = max(settings.load_workers, settings.build_workers)
        async with (
            Pool(*reading, MIN_READERS, MAX_READERS) as readers,
            Pool(*reading, 1, MAX_RECORDS) as records,
            Pool(conninfo, RUN_SETTINGS, 1, workers + 3, reset_session) as runners,
        ):
            yield Database(location_of(conninfo), readers, records, runners)


@asynccontextmanager
async def serving_postgres(
    settings: Settings, *, create: bool = True
) -> AsyncIterator[str]:
    """The connection string of the database; the embedded Postgres runs while in here.

    Raises MissingDatabase where the pipeline has none there, unless ``create``.
    """
    if settings.database is not None:
        yield make_conninfo(settings.database, client_encoding="utf8")
        return
    home = home_folder(settings.state_dir)
    try:
        if not create and not home.is_dir():
            raise MissingDatabase(f"no embedded Postgres in {settings.state_dir}")
    except OSError as error:
        raise DatabaseError(f"STATE_DIR: {home}: {error.strerror}") from None
    # Blocking is right here: nothing is served yet, or any more, and a start that is
    # cancelled half-way would leave a server behind that nobody stops.
    cluster = embedded.start(settings.state_dir)
    for name in LIBPQ_DETAILS:  # libpq would apply them to each connection
        os.environ.pop(name, None)
    try:
        name = await _embedded_database(cluster.conninfo, settings, create=create)
        async with embedded.kept_running(cluster):
            yield make_conninfo(cluster.conninfo, dbname=name, client_encoding="utf8")
    finally:
        embedded.stop(cluster)


async def _embedded_database(conninfo: str, settings: Settings, *, create: bool) -> str:
    """The pipeline's database in the embedded cluster, created on its first start."""
    sql_dir = settings.sql_dir.resolve()
    if sql_dir == OWN_SQL.resolve():
        return OWN_DATABASE
    comment = _comment(settings)
    async with await _first_connection(conninfo) as connection:
        await connection.execute("select pg_advisory_lock(%s, %s)", DATABASE_LOCK)
        rows = await connection.execute(
            "select datname, shobj_description(oid, 'pg_database') from pg_database"
        )
        databases: dict[str, str | None] = dict(await rows.fetchall())
        if found := [name for name, held in databases.items() if held == comment]:
            return found[0]
        if not create:
            raise MissingDatabase(f"no database of {settings.sql_dir}")
        folder = sql_dir.parent if sql_dir.name == "sql" else sql_dir
        name = _unused_name(folder.name, databases)
        try:
            for statement in ("create database {}", "comment on database {} is {}"):
                query = sql.SQL(statement).format(sql.Identifier(name), comment)
                await connection.execute(query)
        except psycopg.Error as error:
            raise DatabaseError(
                f"{location_of(conninfo)}: no database for {settings.sql_dir}: "
                f"{one_line(error)}"
            ) from error
    log.info("created the database %s for %s", name, settings.sql_dir)
    return name


def _comment(settings: Settings) -> str:
    base = settings.state_dir.resolve().parent
    path = relpath(settings.sql_dir.resolve(), base)
    return COMMENT + os.fsencode(path).decode(errors="backslashreplace")


def _unused_name(folder: str, taken: Collection[str]) -> str:
    """The folder's name in lower case without punctuation, and a number if needed."""
    name = re.sub(r"\W+", "_", folder.lower()).strip("_")
    # A name has 63 bytes; this leaves room for the number.
    name = name.encode()[:58].decode(errors="ignore") or "pipeline"
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(each for each in names if each not in taken)


async def _prepare(conninfo: str, settings: Settings) -> tuple[str, dict[str, str]]:
    """Wait for the database, check its version, and bring its schema up to date.

    Returns the connection string and the settings of connections that read.
    """
    where, is_embedded = location_of(conninfo), settings.database is None
    async with await _first_connection(conninfo) as connection:
        version = connection.info.server_version
        if version < MIN_VERSION:
            raise DatabaseError(
                f"{where} is PostgreSQL {version // 10000}: "
                f"{MIN_VERSION // 10000} or newer is needed"
            )
        try:
            await configure(connection, RUN_SETTINGS)
            if is_embedded:
                free = shutil.disk_usage(settings.state_dir).free
                await make_reader(connection, free // TEMPORARY_PART)
            await migrate(connection, settings.sql_dir)
            return await reading_as(connection, conninfo, is_embedded=is_embedded)
        except SchemaChanged as error:
            advice = how_to_start_over(settings, connection.info.dbname)
            raise SchemaChanged(f"{error}{advice}") from None
        except TimeoutError as error:  # of a lock
            raise DatabaseError(f"{where}: {error}") from None
        except psycopg.Error as error:
            raise DatabaseError(
                f"{where}: the schema cannot be made: {one_line(error)}"
            ) from error


def how_to_start_over(settings: Settings, database: str) -> str:
    """What to add to the message about a schema file that differs from the one applied.

    Nothing after the first release: then databases hold what people want to keep.
    """
    if etl.RELEASED is not None:
        return ""
    if settings.database is not None:
        advice = "name an empty database"
    elif database == OWN_DATABASE:
        advice = f"remove {settings.state_dir}, the embedded Postgres with all its data"
    else:
        advice = f"run scripts/query.sh -c 'drop database \"{database}\"'"
    return f"; or start over: stop the service and {advice}"


async def _first_connection(conninfo: str) -> AsyncConnection:
    """Connect; waits, but not forever, for a database that is unavailable."""
    deadline = time.monotonic() + START_WAIT_SECONDS
    where, is_logged = location_of(conninfo), False
    while True:
        try:
            return await AsyncConnection.connect(
                conninfo, autocommit=True, connect_timeout=5
            )
        except OperationalError as error:
            reason = one_line(error)
            if time.monotonic() > deadline or any(each in reason for each in REFUSALS):
                raise DatabaseError(f"no connection to {where}: {reason}") from None
            if not is_logged:
                log.warning(
                    "waiting up to %d s for %s: %s", START_WAIT_SECONDS, where, reason
                )
                is_logged = True
            await asyncio.sleep(0.5)


def location_of(conninfo: str) -> str:
    """Host, port and name of the database that a connection string names, no password.

    What the string does not say, libpq takes from its variables and their service.
    """
    values = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val
    }
    values |= {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    host, address = values.get("host"), values.get("hostaddr")
    host = f"{host} ({address})" if host and address else host or address
    if host is None:
        service = values.get("service")
        host = f"the service {service}" if service else "the local socket"
    name = values.get("dbname") or values.get("user")
    return f"the database {name} at {host}:{values.get('port')}"
