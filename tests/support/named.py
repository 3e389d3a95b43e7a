"""The server that TEST_DATABASE_URL names, on which the suite makes its databases."""

from __future__ import annotations

import psycopg
import pytest

from etl.postgres.database import location_of
from etl.postgres.sqlerrors import one_line
from tests.support.databases import Postgres

NAMED = "TEST_DATABASE_URL"

ABOUT = """
select
    current_user, rolsuper or rolcreatedb
from pg_roles where rolname = current_user
"""


def open_named(url: str) -> Postgres:
    """The named server.

    Raises UsageError where no database can be made there.
    """
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            row = connection.execute(ABOUT).fetchone()
    except psycopg.Error as error:
        raise pytest.UsageError(f"{NAMED}: {one_line(error)}") from None
    assert row is not None
    role, may_create = row
    if not may_create:
        raise pytest.UsageError(
            f"{NAMED}: the role {role} may not create databases on {location_of(url)}:"
            f" alter role {role} createdb"
        )
    return Postgres(url)
