"""How a peer hands over its rows: COPY to a new table, key, swap, one transaction.

Knows the columns of the result, and no library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.copy import Copy, LibpqWriter, QueuedLibpqWriter

COLUMNS = """
    user_id                   bigint not null,
    name                      text,
    email                     text,
    signup_date               date,
    total_experiments         bigint not null,
    avg_experiments           double precision not null,
    experiments_pct           double precision not null,
    most_common_compound_id   bigint,
    most_common_compound_name text
"""


@contextmanager
def replace_table(conninfo: str, table: str, *, queued: bool = False) -> Iterator[Copy]:
    """A COPY that takes the rows as CSV without a header, an empty value being null.

    When it ends, ``bench.<table>`` holds these rows, and has its key; the old one is
    gone. ``queued`` sends from a thread of its own, while the caller makes more. FREEZE
    saves the next reader's work: the table is new, so nobody sees the rows too early.
    No autovacuum, for it would start in the midst of another one's round.
    """
    name = sql.Identifier("bench", table)
    fresh = sql.Identifier("bench", f"{table}_new")
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        cursor.execute("create schema if not exists bench")
        cursor.execute(
            sql.SQL("create table {} ({}) with (autovacuum_enabled = false)").format(
                fresh, sql.SQL(COLUMNS)
            )
        )
        writer = QueuedLibpqWriter(cursor) if queued else LibpqWriter(cursor)
        copy = sql.SQL("copy {} from stdin with (format csv, freeze)").format(fresh)
        with cursor.copy(copy, writer=writer) as stream:
            yield stream
        cursor.execute(
            sql.SQL("alter table {} add primary key (user_id)").format(fresh)
        )
        cursor.execute(sql.SQL("drop table if exists {}").format(name))
        cursor.execute(
            sql.SQL("alter table {} rename to {}").format(fresh, sql.Identifier(table))
        )
