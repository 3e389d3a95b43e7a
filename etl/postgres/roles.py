"""The role that reads for requests: it can write nothing, whatever a query holds.

The embedded Postgres has it from its start, and connections log in as it. In a named
database scripts/roles.sql makes it, and connections of the service become it. Where a
database has none, they read as the service itself, in read-only transactions.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import DuplicateObject, InternalError_, UniqueViolation

from etl.postgres.pools import READ_SETTINGS

#: The name of the role.
READER = "features_reader"

#: Makes it on the embedded Postgres, where no data but the pipelines' is.
CREATE = sql.SQL("create role {} login in role pg_read_all_data").format(
    sql.Identifier(READER)
)

#: Bounds the temporary files of each of its connections, in kB.
BOUND = sql.SQL("alter role {} set temp_file_limit to ").format(sql.Identifier(READER))

#: The schemas in which the service finds its tables, as a search path: ``$user`` would
#: be another one to the role. And whether the service may become the role, and that may
#: read what the service serves; both false where there is no such role.
FIND = """
    select
        (
            select string_agg(quote_ident(name), ', ')
            from unnest(current_schemas(false)) as schemas (name)
        ),
        coalesce(pg_has_role(session_user, roles.oid, 'set'), false),
        coalesce(
            has_schema_privilege(roles.oid, 'etl', 'usage')
            and has_table_privilege(roles.oid, 'etl.runs', 'select')
            and has_table_privilege(roles.oid, 'features', 'select'),
            false
        )
    from (select 1) as one (row)
    left join pg_roles as roles on rolname = %s
"""

log = logging.getLogger(__name__)


async def make_reader(connection: AsyncConnection, temporary_bytes: int) -> None:
    """Make the role where the cluster lacks it; ``connection`` is a superuser's.

    Its connections may have so many bytes of temporary files each, from the next ones
    on: a sort of many wide rows could fill the disk.
    """
    found = await connection.execute(
        "select 1 from pg_roles where rolname = %s", [READER]
    )
    if await found.fetchone() is None:
        with suppress(DuplicateObject, UniqueViolation):  # of another start, just now
            await connection.execute(CREATE)
    with suppress(InternalError_):  # of another start, which sets it just now
        kilobytes = sql.Literal(temporary_bytes >> 10)
        await connection.execute(BOUND + kilobytes)


async def reading_as(
    connection: AsyncConnection, conninfo: str, *, is_embedded: bool
) -> tuple[str, dict[str, str]]:
    """The connection string and the settings of the connections that read.

    ``connection`` is the service's own, in a database with its schema.
    """
    rows = await connection.execute(FIND, [READER])
    ((path, is_member, may_read),) = await rows.fetchall()
    settings = {**READ_SETTINGS, "search_path": path}
    if is_embedded:
        return make_conninfo(conninfo, user=READER), settings
    if is_member and may_read:
        return conninfo, {**settings, "role": READER}
    if is_member:
        log.warning(
            "reads run as the service's own role: %s may not read its tables here"
            " (run scripts/roles.sql in this database)",
            READER,
        )
    return conninfo, READ_SETTINGS
