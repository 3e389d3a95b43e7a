"""Which Postgres the service uses, named or embedded, and the connections to it.

Knows how to get a connection that is fit for its work, and nothing of that work.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, AsyncCursor, OperationalError, sql
from psycopg.conninfo import make_conninfo

from etl.postgres import embedded
from etl.postgres.location import location_of
from etl.postgres.migrations import SchemaChanged, SchemaInUse, migrate
from etl.postgres.pipelines import embedded_database
from etl.postgres.pools import Pool
from etl.postgres.restarting import kept_running
from etl.postgres.starting_over import how_to_start_over
from etl.settings import Settings
from etl.sqlfiles import read_pipeline

#: 16 brought pg_input_is_valid; older servers are refused with a clear word.
OLDEST_VERSION = 160000

#: Seconds that a start waits for a database that is away.
START_WAIT_SECONDS = 60

#: A role's statement_timeout still holds for the statement that lifts it: one of a
#: millisecond is over before that on a busy machine, now and then.
CONFIGURE_TRIES = 10

#: Seconds that a request waits for a connection before it answers 503.
POOL_WAIT_SECONDS = 3

#: Connections for readers, kept and at most.
READERS_KEPT, READERS_MOST = 2, 20

#: Everywhere: what is sent and read does not hang on what an administrator has set.
COMMON_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
}

#: Since PostgreSQL 17.
NEWER_SETTINGS = {"transaction_timeout": "0"}

#: For the connections of a run. Slices fill the cores, so parallel query would only
#: compete; sorts of this size stay in the caches, and larger ones were no faster.
#: Staging can be loaded again, so its commits need not wait for the disk.
RUN_SETTINGS = {
    **COMMON_SETTINGS,
    "application_name": "features-etl run",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "60s",
    "synchronous_commit": "off",
    "jit": "off",
    "work_mem": "64MB",
    "max_parallel_workers_per_gather": "0",
}

#: For the connections that answer requests: they write nothing, and what takes longer
#: than a reader waits is ended; a stream has bounds of its own.
READ_SETTINGS = {
    **COMMON_SETTINGS,
    "application_name": "features-etl",
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
}

#: Begins a transaction whose statements all read one and the same state.
SNAPSHOT = sql.SQL("set transaction isolation level repeatable read, read only")

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
            _pool(conninfo, READ_SETTINGS, READERS_KEPT, READERS_MOST) as readers,
            _pool(conninfo, RUN_SETTINGS, 1, workers + 3, _release_locks) as runners,
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
            await _configure(connection, RUN_SETTINGS)
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


@asynccontextmanager
async def _pool(
    conninfo: str,
    session: Mapping[str, str],
    kept: int,
    most: int,
    reset: Callable[[AsyncConnection], Awaitable[None]] | None = None,
) -> AsyncIterator[Pool]:
    async def configure(connection: AsyncConnection) -> None:
        await _configure(connection, session)

    replacing: set[asyncio.Task[None]] = set()

    async def check(connection: AsyncConnection) -> None:
        if not _has_word(connection):
            return
        try:
            await Pool.check_connection(connection)
        except psycopg.Error:
            # After a restart of the server its neighbours are dead too. Left to itself
            # the pool finds them one by one, and waits longer after each.
            task = asyncio.create_task(pool.check())
            replacing.add(task)
            task.add_done_callback(replacing.discard)
            raise

    pool = Pool(
        conninfo,
        kwargs={"autocommit": True, "connect_timeout": POOL_WAIT_SECONDS},
        min_size=kept,
        max_size=most,
        open=False,
        configure=configure,
        reset=reset,
        # a connection that died since is replaced before anyone gets it
        check=check,
        timeout=POOL_WAIT_SECONDS,
        # short, so that the next request tries again as soon as it may be back
        reconnect_timeout=POOL_WAIT_SECONDS,
    )
    async with pool:
        yield pool


def _has_word(connection: AsyncConnection) -> bool:
    """Whether the server has sent something unasked, or hung up, since the last answer.

    A server that ends a connection, or ends itself, leaves its last word there; to ask
    it each time would cost a round trip, half of what a short answer takes.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _release_locks(connection: AsyncConnection) -> None:
    """What a connection held for a run goes when it comes back to its pool."""
    await connection.execute("select pg_advisory_unlock_all()")


@asynccontextmanager
async def transaction(
    connection: AsyncConnection, first: sql.Composable
) -> AsyncIterator[AsyncCursor]:
    """A transaction whose ``first`` statement travels with its BEGIN, and a cursor with
    what that returned. It saves a round trip, of which a small run has little else.

    ``psycopg.Rollback`` undoes it and goes no further, any other error does both.
    """
    try:
        cursor = await connection.execute(sql.SQL("begin; {}").format(first))
        cursor.nextset()
        yield cursor
    except BaseException as error:
        with suppress(psycopg.Error):  # of a connection that is gone
            await connection.rollback()
        if isinstance(error, psycopg.Rollback):
            return
        raise
    await connection.commit()


def local(values: Mapping[str, str]) -> sql.Composed:
    """The statement that sets server settings until the end of the transaction."""
    settings = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value)
        for name, value in values.items()
    )
    return sql.SQL("select {}").format(settings)


async def _configure(connection: AsyncConnection, session: Mapping[str, str]) -> None:
    """Set server settings for as long as the connection lives."""
    newer = NEWER_SETTINGS if connection.info.server_version >= 170000 else {}
    for tries_left in reversed(range(CONFIGURE_TRIES)):
        try:
            await _set(connection, {**session, **newer})
            break
        except psycopg.errors.QueryCanceled:
            if not tries_left:
                raise


async def _set(connection: AsyncConnection, values: Mapping[str, str]) -> None:
    await connection.execute(
        "select set_config(name, value, false)"
        " from unnest(%s::text[], %s::text[]) as settings (name, value)",
        [list(values.keys()), list(values.values())],
    )


def one_line(error: BaseException) -> str:
    """What the server said, with its detail, or the error's own words; one line."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        said = [error.diag.message_primary, error.diag.message_detail]
        return ": ".join(" ".join(words.split()) for words in said if words)
    return " ".join(str(error).split()) or type(error).__name__
