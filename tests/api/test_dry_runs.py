"""What a dry run says that publishing would change in features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from tests.support.client import Client, StartService, features, get, trigger

USERS = "user_id,name,email,signup_date"

NOTHING = {"added": 0, "removed": 0, "changed": 0}

#: Types without equality, a quoted name, and a type that publishing casts.
COLUMNS = """
alter table features
    add column "A b" json, add column place point, add column size numeric(5, 2);
alter table features_next
    add column "A b" json, add column place point, add column size numeric;
"""

FILLING = """-- grain:  one row per user
-- reads:  features_next
-- writes: features_next
update features_next
set "A b" = json_build_object('id', user_id), place = point(user_id, 1), size = 1.005;
"""


async def dry_run(client: Client, full: str = "false") -> dict[str, Any]:
    """What a dry run would change."""
    run = (await trigger(client, dry_run="true", full=full))["run"]
    assert (await get(client, f"/runs/{run['id']}"))["changes"] == run["changes"]
    return dict(run["changes"])


def change(data_dir: Path) -> None:
    """One user less, one more, and another name; all have another average."""
    *users, _ = (data_dir / "users.csv").read_text().strip().splitlines()
    users[1] = users[1].replace("Alice", "Alicia")
    users += ["11,Kim,,2024-01-01", "12,Leo,,2024-01-01"]
    (data_dir / "users.csv").write_text("\n".join([*users, ""]))


async def test_a_dry_run_counts_the_rows_that_publishing_would_change(
    client: Client, data_dir: Path
) -> None:
    assert await dry_run(client) == {"added": 10, "removed": 0, "changed": 0}
    assert (await trigger(client))["run"]["changes"] is None
    assert await dry_run(client) == NOTHING
    assert await dry_run(client, full="true") == NOTHING
    change(data_dir)
    before = await features(client)
    changes = {"added": 2, "removed": 1, "changed": 9}
    assert await dry_run(client) == changes
    assert await dry_run(client) == changes  # now all of the build is kept
    assert await features(client) == before
    assert (await trigger(client))["run"]["changes"] is None
    assert await dry_run(client) == NOTHING


async def test_a_row_counts_as_changed_where_any_value_is(
    client: Client, data_dir: Path
) -> None:
    await trigger(client)
    path = data_dir / "users.csv"
    text = path.read_text()
    path.write_text(text.replace("bob@example.com", ""))
    assert await dry_run(client) == {**NOTHING, "changed": 1}
    path.write_text(text.replace("Alice", "alice").replace("Bob", "bob"))
    assert await dry_run(client) == {**NOTHING, "changed": 2}
    path.write_text(text)
    assert await dry_run(client) == NOTHING


async def test_an_unchanged_dry_run_changes_nothing(client: Client) -> None:
    for _ in range(3):
        run = (await trigger(client))["run"]
    assert (run["unchanged"], run["changes"]) == (True, None)
    run = (await trigger(client, dry_run="true"))["run"]
    assert (run["unchanged"], run["changes"]) == (True, NOTHING)


async def test_others_may_have_written_to_the_table(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    await connection.execute("delete from features where user_id <= 3")
    await connection.execute("update features set name = 'x' where user_id = 4")
    await connection.execute("update features set user_id = 99 where user_id = 5")
    assert await dry_run(client) == {"added": 4, "removed": 1, "changed": 1}


async def test_a_dry_run_that_fails_compared_nothing(
    client: Client, data_dir: Path
) -> None:
    await trigger(client)
    (data_dir / "users.csv").write_text(f"{USERS}\n")
    run = (await trigger(client, 422, dry_run="true"))["run"]
    assert run["changes"] is None


@pytest.mark.plain_postgres("a distributed table takes no such update")
async def test_any_type_is_compared(
    start_service: StartService, sql_dir: Path, data_dir: Path
) -> None:
    (sql_dir / "schema" / "004_columns.sql").write_text(COLUMNS)
    (sql_dir / "build" / "900_columns.sql").write_text(FILLING)
    client = await start_service(sql_dir=sql_dir)
    await trigger(client)
    assert await dry_run(client, full="true") == NOTHING
    change(data_dir)
    assert await dry_run(client) == {"added": 2, "removed": 1, "changed": 9}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("", None),
        (
            ", add primary key (signup_date, user_id)",
            {"added": 1, "removed": 1, "changed": 0},
        ),
        (", add column number serial, add primary key (number)", None),
    ],
)
async def test_rows_are_matched_by_the_primary_key(
    client: Client,
    data_dir: Path,
    connection: AsyncConnection,
    key: str,
    changes: dict[str, int] | None,
) -> None:
    await trigger(client)
    alter = f"alter table features drop constraint features_pkey{key}"
    await connection.execute(alter.encode())
    path = data_dir / "users.csv"
    path.write_text(path.read_text().replace("2023-01-01", "2029-01-01"))
    assert (await trigger(client, dry_run="true"))["run"]["changes"] == changes
