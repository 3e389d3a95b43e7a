"""What the connections of each kind of work are set to.

Knows the server's settings, and nothing of what the connections are used for.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import AsyncConnection

#: A role's statement_timeout still holds for the statement that lifts it: one of a
#: millisecond is over before that on a busy machine, now and then.
CONFIGURE_TRIES = 10

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


async def configure(connection: AsyncConnection, session: Mapping[str, str]) -> None:
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
