"""psql on the service's database: ``python -m etl.psql [psql's arguments]``.

Starts the embedded Postgres for as long as it takes, where the service does not run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl.postgres.database import serving_postgres
from etl.postgres.embedded import EmbeddedError, client_binaries
from etl.settings import Settings, SettingsError


async def _psql(arguments: list[str]) -> int:
    settings = Settings.from_environ(os.environ)
    async with serving_postgres(settings) as conninfo:
        # The password goes by the environment: other users may see the arguments.
        values = conninfo_to_dict(conninfo)
        password = values.pop("password", None)
        environ = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
        command = [str(client_binaries() / "psql"), "--dbname"]
        command += [make_conninfo("", **values), *arguments]
        signal.signal(signal.SIGINT, lambda *_: None)  # a Ctrl-C is psql's to handle
        return subprocess.call(command, env=environ)  # noqa: ASYNC221 (nothing else runs)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(_psql(sys.argv[1:])))
    except (SettingsError, EmbeddedError) as error:
        sys.exit(str(error))
