"""The server that TEST_DATABASE_URL names, on which the suite makes its databases."""

from __future__ import annotations

import psycopg
import pytest

from etl.postgres.database import location_of
from etl.postgres.sqlerrors import one_line
from tests.support.citus import Citus
from tests.support.databases import Postgres

NAMED = "TEST_DATABASE_URL"

ABOUT = """
select
    current_user, rolsuper or rolcreatedb,
    exists (select from pg_extension where extname = 'citus')
from pg_roles where rolname = current_user
"""


def open_named(url: str) -> Postgres:
    """The named server, a Citus where its database has the extension.

    Raises UsageError where no database can be made there.
    """
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            row = connection.execute(ABOUT).fetchone()
    except psycopg.Error as error:
        raise pytest.UsageError(f"{NAMED}: {one_line(error)}") from None
    assert row is not None
    role, may_create, has_citus = row
    if not may_create:
        raise pytest.UsageError(
            f"{NAMED}: the role {role} may not create databases on {location_of(url)}:"
            f" alter role {role} createdb"
        )
    return Citus(url) if has_citus else Postgres(url)
