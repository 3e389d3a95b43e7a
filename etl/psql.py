"""psql on a pipeline's database: ``python -m etl.psql [FOLDER] [psql's arguments]``.

A first argument that is no option is the pipeline's folder. With ``--show`` before it,
and no argument of psql, shows what is in features. Starts the embedded Postgres for as
long as it takes, where the service does not run, and creates nothing there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import UndefinedTable

from etl.postgres.database import DatabaseError, MissingDatabase, serving_postgres
from etl.postgres.folders import client_binaries
from etl.postgres.process import EmbeddedError
from etl.postgres.sqlerrors import one_line
from etl.settings import PROJECT, Settings, SettingsError
from etl.standardstreams import open_streams, print_error
from etl.terminal import command

#: What ``--show`` gives to psql.
SHOW = ["--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file"]
SHOW += [str(PROJECT / "scripts" / "query.sql")]

#: Exit codes: nothing is loaded yet, and what psql says where it cannot connect.
NOTHING_LOADED, CANNOT_CONNECT = 1, 2


def main(arguments: Sequence[str]) -> int:
    """Returns psql's exit code, 1 before the first run, or 2 without a connection."""
    open_streams()
    shows = [*arguments[:1]] == ["--show"]
    rest = [*arguments[shows:]]
    pipeline = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else None
    try:
        settings = Settings.from_environ(os.environ, pipeline)
        return asyncio.run(_psql(settings, rest, shows=shows and not rest))
    except MissingDatabase:
        run = command("./run.sh --once", pipeline)
        print_error(f"nothing is loaded yet: {run}")
        return NOTHING_LOADED
    except (SettingsError, DatabaseError, EmbeddedError) as error:
        print_error(one_line(error))
        return CANNOT_CONNECT


async def _psql(settings: Settings, arguments: Sequence[str], *, shows: bool) -> int:
    """psql's exit code; MissingDatabase where ``shows`` and nothing is published."""
    async with serving_postgres(settings, create=False) as conninfo:
        if shows and not await _is_published(conninfo):
            raise MissingDatabase("no run has published anything")
        # The password goes by the environment: other users may see the arguments.
        values = conninfo_to_dict(conninfo)
        password = values.pop("password", None)
        environ = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
        psql = [
            _program(),
            "--dbname",
            make_conninfo("", **values),
        ]
        psql += SHOW if shows else arguments
        signal.signal(signal.SIGINT, lambda *_: None)  # a Ctrl-C is psql's to handle
        # Nothing else runs, and the arguments are the user's own.
        return subprocess.call(psql, env=environ)  # noqa: ASYNC221, S603


def _program() -> str:
    """The wheel's psql, or the system's where this Python has no wheel.

    Raises EmbeddedError where there is neither.
    """
    try:
        return str(client_binaries() / "psql")
    except EmbeddedError:
        if found := shutil.which("psql"):
            return found
        raise


async def _is_published(conninfo: str) -> bool:
    """Whether a run has filled features; false too where the service never started."""
    try:
        async with await AsyncConnection.connect(conninfo) as connection:
            found = await connection.execute(
                "select run_id is not null and to_regclass('features') is not null"
                " from etl.published"
            )
            return await found.fetchone() == (True,)
    except UndefinedTable:
        return False
    except psycopg.Error as error:
        raise DatabaseError(one_line(error)) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
