"""Says how to start over with a database, as long as nothing is released."""

from __future__ import annotations

from contextlib import suppress

from psycopg import AsyncConnection, sql
from psycopg.errors import UndefinedTable

import etl
from etl.postgres.pipelines import OWN_DATABASE
from etl.settings import Settings

#: The tables that a pipeline has outside the schemas ``etl`` and ``staging``, but for
#: those in BUILT_TABLES, which databases of earlier versions lack.
TABLES = """
    select tables.table_id::regclass::text
    from (values (to_regclass('features')), (to_regclass('features_next')))
        as tables (table_id)
    where tables.table_id is not null
"""
BUILT_TABLES = "select built_tables.target::text from etl.built_tables"


async def how_to_start_over(connection: AsyncConnection, settings: Settings) -> str:
    """What to add to the message of a schema file that is not the one applied.

    Nothing after a release: then databases hold what people want to keep.
    """
    if etl.RELEASED is not None:
        return ""
    database = connection.info.dbname
    if settings.database is None and database != OWN_DATABASE:
        drop = sql.SQL("drop database {}").format(sql.Identifier(database))
        return (
            "; or start over: stop the service and run scripts/query.sh -c "
            f"'{drop.as_string()}'"
        )
    if settings.database is None:
        return (
            f"; or start over: stop the service and remove {settings.state_dir}, the "
            "embedded Postgres with all that is in it"
        )
    names: set[str] = set()
    for query in (TABLES, BUILT_TABLES):
        with suppress(UndefinedTable):
            rows = await connection.execute(query.encode())
            names.update(name for (name,) in await rows.fetchall())
    drop_tables = f" drop table {', '.join(sorted(names))};" if names else ""
    return (
        "; or start over: stop the service, and name an empty database, or run in this "
        f"one: drop schema etl, staging cascade;{drop_tables}"
    )
