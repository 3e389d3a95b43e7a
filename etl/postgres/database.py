"""Which Postgres the service uses, named or embedded, and the connections to it.

Knows how to get a connection that is fit for its work, and nothing of that work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.location import location_of
from etl.postgres.migrations import SchemaChanged, SchemaInUse, migrate
from etl.postgres.pipelines import embedded_database
from etl.postgres.pools import Pool, open_pool, release_locks
from etl.postgres.restarting import kept_running
from etl.postgres.sessions import READ_SETTINGS, RUN_SETTINGS, configure
from etl.postgres.sqlerrors import one_line
from etl.postgres.starting_over import how_to_start_over
from etl.settings import Settings
from etl.sqlfiles import read_pipeline

#: 16 brought pg_input_is_valid; older servers are refused with a clear word.
OLDEST_VERSION = 160000

#: Seconds that a start waits for a database that is away.
START_WAIT_SECONDS = 60

#: Connections for readers, kept and at most.
READERS_KEPT, READERS_MOST = 2, 20

log = logging.getLogger(__name__)


class DatabaseError(RuntimeError):
    """The database cannot be used; the message is one line that says why."""


class MissingDatabase(DatabaseError):
    """The pipeline has no database on the embedded Postgres yet."""


@dataclass(frozen=True)
class Database:
    """Where the database is, and a pool for each kind of work.

    ``readers`` answer requests. ``runners`` work for runs: one leads, others load and
    build, one may still vacuum after the run before, and one checks that a run can
    begin. All are autocommit. ``place`` names the database without its password.
    """

    conninfo: str
    place: str
    readers: Pool
    runners: Pool


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Start or find the database, bring its schema up to date, and open the pools.

    Raises DatabaseError, EmbeddedError or SqlFileError, each one clear line; for files
    that cannot be used, before anything is started.
    """
    read_pipeline(settings.sql_dir)
    async with serving_postgres(settings) as conninfo:
        await _prepare(conninfo, settings)
        workers = max(settings.load_workers, settings.build_workers)
        async with (
            open_pool(conninfo, READ_SETTINGS, READERS_KEPT, READERS_MOST) as readers,
            open_pool(conninfo, RUN_SETTINGS, 1, workers + 3, release_locks) as runners,
        ):
            yield Database(conninfo, location_of(conninfo), readers, runners)


@asynccontextmanager
async def serving_postgres(
    settings: Settings, *, create: bool = True
) -> AsyncIterator[str]:
    """The connection string of a Postgres that runs, the embedded one while in here.

    There each pipeline has a database of its own. Raises MissingDatabase where that is
    neither there nor to be created.
    """
    if settings.database is not None:
        yield make_conninfo(settings.database, client_encoding="utf8")
        return
    # Blocking is right here: nothing is served yet, or any more, and a start that is
    # cancelled half-way would leave a server behind that nobody stops.
    if not create and not embedded.cluster_exists(settings.state_dir):
        raise MissingDatabase(f"no embedded Postgres in {settings.state_dir}")
    cluster = embedded.start(settings.state_dir)
    try:
        async with await _first_connection(cluster.conninfo) as connection:
            try:
                name = await embedded_database(connection, settings, create=create)
            except psycopg.Error as error:
                raise DatabaseError(
                    f"{location_of(cluster.conninfo)}: no database for "
                    f"{settings.sql_dir}: {one_line(error)}"
                ) from error
        if name is None:
            raise MissingDatabase(f"no database of {settings.sql_dir}")
        async with kept_running(cluster):
            yield make_conninfo(cluster.conninfo, dbname=name, client_encoding="utf8")
    finally:
        embedded.stop(cluster)


async def _prepare(conninfo: str, settings: Settings) -> None:
    """Wait for the database, check that it is fit, and bring its schema up to date."""
    async with await _first_connection(conninfo) as connection:
        version = connection.info.server_version
        if version < OLDEST_VERSION:
            raise DatabaseError(
                f"{location_of(conninfo)} is PostgreSQL {version // 10000}: "
                f"{OLDEST_VERSION // 10000} or newer is needed"
            )
        try:
            await configure(connection, RUN_SETTINGS)
            await migrate(connection, settings.sql_dir)
        except SchemaChanged as error:
            more = await how_to_start_over(connection, settings)
            raise SchemaChanged(f"{error}{more}") from None
        except SchemaInUse as error:
            raise DatabaseError(f"{location_of(conninfo)}: {error}") from None
        except psycopg.Error as error:
            raise DatabaseError(
                f"{location_of(conninfo)}: the schema cannot be made: {one_line(error)}"
            ) from error


async def _first_connection(conninfo: str) -> AsyncConnection:
    """Connect, waiting with a bound for a database that is away or still starting."""
    deadline = time.monotonic() + START_WAIT_SECONDS
    told = False
    while True:
        try:
            return await AsyncConnection.connect(
                conninfo, autocommit=True, connect_timeout=5
            )
        except OperationalError as error:
            reason = one_line(error)
            if time.monotonic() > deadline or _is_final(error):
                raise DatabaseError(
                    f"no connection to {location_of(conninfo)}: {reason}"
                ) from None
            if not told:
                log.warning(
                    "waiting up to %d s for %s: %s",
                    *(START_WAIT_SECONDS, location_of(conninfo), reason),
                )
                told = True
            await asyncio.sleep(0.5)


def _is_final(error: OperationalError) -> bool:
    """Whether waiting cannot help: the server answered, and refused us."""
    words = str(error)
    refusals = (
        *("authentication failed", "no password supplied", "no pg_hba.conf entry"),
        *("does not exist", "permission denied", "invalid ", "definition of service"),
    )
    return any(refusal in words for refusal in refusals)
