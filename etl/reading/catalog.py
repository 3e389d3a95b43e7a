"""The columns of ``features`` as Postgres's catalog describes them.

Only these may be selected, filtered and ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import AsyncConnection

from etl.errors import BadParameter, truncated


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the table.

    Values are cast to ``type``, which has no length. ``key_position`` is its position
    in the primary key from 1, or None. ``base_type`` is the one below domains and
    arrays: a composite type if ``is_row``, and of an enum there are ``labels``.
    """

    name: str
    type: str
    is_required: bool
    key_position: int | None
    description: str | None
    base_type: str
    is_array: bool = False
    is_row: bool = False
    labels: Sequence[str] | None = None

    @property
    def csv_type(self) -> str | None:
        """The type that a column of booleans is cast to for CSV, None of others."""
        if self.base_type != "boolean":
            return None
        return "text[]" if self.is_array else "text"


@dataclass(frozen=True, eq=False)
class Catalog:
    """The columns in the table's order, a digest that changes with them, its schema."""

    columns: tuple[Column, ...]
    digest: str
    schema: str

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The allow-list of columns."""
        return {column.name: column for column in self.columns}

    @cached_property
    def key(self) -> tuple[Column, ...]:
        """The columns of the primary key in its order; empty if there is none."""
        keys = [column for column in self.columns if column.key_position is not None]
        return tuple(sorted(keys, key=lambda column: column.key_position or 0))

    @cached_property
    def names(self) -> str:
        """The columns' names, for messages."""
        return ", ".join(self.by_name)

    def find(self, name: str) -> Column:
        """The column of this name; raises BadParameter if there is none."""
        if name in self.by_name:
            return self.by_name[name]
        raise BadParameter(
            f"there is no column {truncated(name)}; allowed: {self.names}",
            code="42703",
            message=f"column features.{name} does not exist",
        )


async def read_catalog(connection: AsyncConnection) -> Catalog:
    """Read it in one snapshot."""
    cursor = await connection.execute(
        "select digest, relnamespace::regnamespace::text, name, value_type,"
        " is_required, key_position, description,"
        " types.type, is_array, is_row, labels"
        " from etl.feature_columns_digest, etl.feature_columns as columns"
        " inner join pg_class on pg_class.oid = to_regclass('features')"
        " inner join etl.feature_types as types using (position) order by position"
    )
    rows = await cursor.fetchall()
    return Catalog(
        columns=tuple(Column(*column) for _, _, *column in rows),
        digest=rows[0][0] if rows else "",
        schema=rows[0][1] if rows else "public",
    )
