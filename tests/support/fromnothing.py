"""What a run leaves in a database without history, to compare others with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from aiohttp.test_utils import TestClient, TestServer
from psycopg import AsyncConnection

from etl.api.routes import create_app
from etl.postgres import pools
from etl.settings import Settings
from tests.support.databases import Postgres, new_database
from tests.support.outcomes import Outcome, outcome_of


class FromNothing:
    """Runs from nothing over the files and SQL of a service; each is remembered.

    Checks compare with the rows that are published, and one rule asks whether there are
    any. So the database without history gets these rows, and nothing else.
    """

    def __init__(self, postgres: Postgres, count: Counter[str]) -> None:
        self._postgres = postgres
        self._count = count
        self._outcomes: dict[object, Outcome] = {}

    async def outcome(
        self,
        settings: Settings,
        connection: AsyncConnection,
        parameters: dict[str, str],
    ) -> Outcome:
        """What a run leaves; ``connection`` is to the database with the rows."""
        async with connection.cursor().copy("copy features to stdout") as copy:
            rows = b"".join([bytes(part) async for part in copy])
        paths = [*settings.data_dir.iterdir(), *settings.sql_dir.glob("*/*")]
        files = sorted((path, path.read_bytes()) for path in paths)
        key = repr((parameters, rows, files))
        key += f"{settings.max_rejects} {pools.RUN_SETTINGS['timezone']}"
        if key not in self._outcomes:
            self._count["runs from nothing"] += 1
            self._outcomes[key] = await self._run(settings, parameters, rows)
        return self._outcomes[key]

    async def _run(
        self, settings: Settings, parameters: dict[str, str], rows: bytes
    ) -> Outcome:
        with new_database(self._postgres) as database:
            connecting = AsyncConnection.connect(database, autocommit=True)
            async with await connecting as connection:
                async with connection.cursor().copy("copy features from stdin") as copy:
                    await copy.write(rows)
                app = create_app(replace(settings, database=database))
                async with TestClient(TestServer(app)) as client:
                    return await outcome_of(client, connection, parameters)
