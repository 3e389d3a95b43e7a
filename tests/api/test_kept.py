"""What answers say of runs that do only what has changed: kept, appended, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from psycopg import AsyncConnection

from etl.run.events import FILE_KEYS, STEP_KEYS, progress_in
from etl.settings import RejectLimit
from tests.support.client import (
    Client,
    StartService,
    features,
    get,
    start,
    trigger,
)
from tests.support.disturbances import full_run_beside
from tests.support.events import listening

ALL = RejectLimit.parse("100%")

FILES = ("compounds.csv", "user_experiments.csv", "users.csv")


def loads(run: dict[str, Any]) -> list[tuple[str, int, int]]:
    """What a run did with each file: load, records_loaded and records."""
    assert [file["file"] for file in run["files"]] == [*FILES]
    return [
        (file["load"], file["records_loaded"], file["records"]) for file in run["files"]
    ]


def kept_steps(run: dict[str, Any]) -> set[str]:
    for step in run["steps"]:
        assert step["milliseconds"] == 0 if step["kept"] else step["milliseconds"] > 0
    return {step["file"] for step in run["steps"] if step["kept"]}


async def etag(client: Client) -> str:
    async with client.get("/features") as response:
        return response.headers["ETag"]


async def run_until_unchanged(client: Client) -> dict[str, Any]:
    """Runs, until one has nothing to do: the record of that."""
    for _ in range(3):
        run: dict[str, Any] = (await trigger(client))["run"]
    assert run["unchanged"] is True
    return run


async def test_a_first_run_loads_everything(client: Client) -> None:
    run = (await trigger(client))["run"]
    assert loads(run) == [("loaded", 3, 3), ("loaded", 11, 11), ("loaded", 10, 10)]
    assert kept_steps(run) == set()
    assert (run["full_run"], run["unchanged"]) == (False, False)


async def test_an_unchanged_run_answers_as_the_one_before(client: Client) -> None:
    first = (await trigger(client))["run"]
    rows, tag = await features(client), await etag(client)
    second = (await trigger(client))["run"]
    assert second["unchanged"] is True
    assert {"build/010_activity.sql", "build/030_features.sql"} <= kept_steps(second)
    run = await run_until_unchanged(client)
    assert loads(run) == [("kept", 0, 3), ("kept", 0, 11), ("kept", 0, 10)]
    assert kept_steps(run) == {step["file"] for step in run["steps"]}
    written = {step["file"]: step["rows"] for step in first["steps"]}
    assert {step["file"]: step["rows"] for step in run["steps"]} == written
    assert (await features(client), await etag(client)) == (rows, tag)
    async with client.get("/features") as response:
        assert response.headers["X-Run-Id"] == str(run["id"])
    headers = {"If-None-Match": tag}
    async with client.get("/features", headers=headers) as response:
        assert response.status == 304


async def test_appended_records_are_counted(client: Client, data_dir: Path) -> None:
    await trigger(client)
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n101,2,1,10\n")
    run = (await trigger(client))["run"]
    assert loads(run) == [("kept", 0, 3), ("appended", 2, 13), ("kept", 0, 10)]
    assert run["unchanged"] is False
    assert "build/030_features.sql" not in kept_steps(run)


async def test_a_file_that_differs_is_loaded(client: Client, data_dir: Path) -> None:
    await trigger(client)
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("Alice", "Alicia"))
    run = (await trigger(client))["run"]
    assert loads(run) == [("kept", 0, 3), ("kept", 0, 11), ("loaded", 10, 10)]


@pytest.mark.parametrize("in_body", [False, True])
async def test_a_full_run_keeps_nothing(client: Client, in_body: bool) -> None:
    await run_until_unchanged(client)
    rows, tag = await features(client), await etag(client)
    query, body = ("", {"full": True}) if in_body else ("?full=true", None)
    async with client.post(f"/trigger_etl{query}", json=body) as response:
        assert response.status == 200, await response.text()
        run = (await response.json())["run"]
    assert loads(run) == [("loaded", 3, 3), ("loaded", 11, 11), ("loaded", 10, 10)]
    assert kept_steps(run) == set()
    assert (run["full_run"], run["unchanged"]) == (True, False)
    assert (await features(client), await etag(client)) == (rows, tag)


async def test_sql_files_that_are_kept_do_not_count_as_run(client: Client) -> None:
    await run_until_unchanged(client)
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    name = "etl_step_duration_seconds_count"
    assert f'{name}{{file="build/010_activity.sql"}} 1.0' in lines


async def test_a_dry_run_may_be_unchanged_too(client: Client) -> None:
    published = await run_until_unchanged(client)
    answer = await trigger(client, dry_run="true")
    assert answer["result"] == "dry run: nothing was published"
    assert (answer["run"]["unchanged"], answer["run"]["dry_run"]) == (True, True)
    async with client.get("/features") as response:
        assert response.headers["X-Run-Id"] == str(published["id"])


@pytest.mark.parametrize("dry_run", ["false", "true"])
async def test_results_are_saved_by_the_leader_alone(
    client: Client, connection: AsyncConnection, dry_run: str
) -> None:
    """A crash of Postgres empties what they are about. It ends the leader's connection;
    any other may be one that was made after it.
    """
    await connection.execute(
        "alter table etl.results add saved_by integer default pg_backend_pid()"
    )
    run = (await trigger(client, dry_run=dry_run))["run"]
    found = await connection.execute(
        "select distinct saved_by = backend_pid from etl.results, etl.runs"
        " where runs.id = %s",
        [run["id"]],
    )
    assert await found.fetchall() == [(True,)]


async def test_runs_are_as_described(client: Client, data_dir: Path) -> None:
    """Of each kind of run, all keys and no other, in /runs/{id} and in its events."""
    await trigger(client)
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n101,2,1,10\n")
    await trigger(client)
    await run_until_unchanged(client)
    schemas = (await get(client, "/openapi.json"))["components"]["schemas"]
    for run in await get(client, "/runs"):
        for name, given in (
            ("Run", [run]),
            ("LoadedFile", run["files"]),
            ("Step", run["steps"]),
            ("Progress", [progress_in(run)]),
        ):
            schema = {"$ref": f"#/components/schemas/{name}"}
            validator = OAS31Validator({**schema, "components": {"schemas": schemas}})
            for each in given:
                assert set(each) == set(schemas[name]["required"]), name
                assert set(each) == set(schemas[name]["properties"]), name
                validator.validate(each)
    progress = schemas["Progress"]["properties"]
    for name, keys in (("files", FILE_KEYS), ("steps", STEP_KEYS)):
        assert progress[name]["items"]["required"] == [*keys]


async def test_events_say_what_is_kept(
    client: Client, connection: AsyncConnection, data_dir: Path
) -> None:
    await trigger(client)
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n")
    async with connection.transaction():
        await connection.execute("lock table features in share mode")
        number = await start(client)
        async with listening(client, number) as listener:
            while True:
                _, _, state = await listener.next()
                if state["phase"] == "check":
                    break
    files = [
        (file["file"], file["load"], file["records_loaded"]) for file in state["files"]
    ]
    assert files == [
        (FILES[0], "kept", 0),
        (FILES[1], "appended", 1),
        (FILES[2], "kept", 0),
    ]
    for file in state["files"]:
        assert file["bytes"] == file["total_bytes"] > 0
    assert state["bytes"] == state["total_bytes"]
    assert state["rows"] == 25
    kept = {step["file"]: step["kept"] for step in state["steps"]}
    assert kept["clean/050_compound_ids_are_unique.sql"] is True
    assert kept["build/030_features.sql"] is False


@pytest.mark.plain_postgres("nothing notes who writes to a distributed table")
async def test_rows_that_others_write_during_a_run_do_not_stay(
    client: Client, connection: AsyncConnection, database: str
) -> None:
    """The run may have built from them: the next one builds again."""
    await trigger(client)
    before = await features(client)
    statement = "insert into staging.users values (77, 'Hand')"
    await full_run_beside(client, connection, database, statement)
    run = (await trigger(client))["run"]
    assert loads(run)[2] == ("loaded", 10, 10)
    assert await features(client) == before


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("build", "update features_next set name = (select name from names);"),
        (
            "build",
            "-- reads: features_next, names\n"
            "update features_next set name = (select name from names);",
        ),
        (
            "clean",
            "-- rejects: users.name\n-- reason: named\n-- reads: staging.users, names\n"
            "select users.name, 'named so' as message from staging.users as users"
            " inner join names on btrim(users.name, e' \\t') = names.name;",
        ),
        (
            "check",
            "-- reads: features_next, names\n-- severity: warn\n"
            "select names.name from names inner join features_next using (name);",
        ),
        *(
            (
                "build",
                "-- reads: features_next\n"
                f"update features_next set name = (select name from {unlisted});",
            )
            for unlisted in ("names", "public.names", '"Aliases"', "first_name()")
        ),
    ],
)
async def test_files_that_read_tables_of_others_run_each_time(
    start_service: StartService,
    connection: AsyncConnection,
    sql_dir: Path,
    folder: str,
    text: str,
) -> None:
    (sql_dir / folder / f"{'06' if folder == 'clean' else '09'}0_names.sql").write_text(
        f"-- For a test: reads a table that runs do not fill.\n{text}\n"
    )
    await connection.execute(
        "create table names as select 'Alice' as name;"
        'create view "Aliases" as select name from names;'
        "create function first_name() returns table (name text) language sql stable"
        " as 'select name from names'"
    )
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)

    async def outcome(full: str = "false") -> tuple[object, str, object, object]:
        run = (await trigger(client, full=full))["run"]
        rejected = [file["rejected"] for file in run["files"]]
        return await features(client), await etag(client), rejected, run["warnings"]

    rows_by_tag: dict[str, object] = {}
    for name in ("Alice", "Bob", "Bob", "Judy"):
        await connection.execute("update names set name = %s", [name])
        found = rows, tag, *_ = await outcome()
        assert found == await outcome(full="true")
        assert rows_by_tag.setdefault(tag, rows) == rows


@pytest.mark.parametrize("tables", ["features_next, features", "features_next"])
async def test_rows_made_of_the_published_ones_have_an_etag_of_their_own(
    start_service: StartService, sql_dir: Path, tables: str
) -> None:
    """Also where the text alone says that the file reads features."""
    (sql_dir / "build" / "090_longer.sql").write_text(
        f"-- For a test: a name grows with each run.\n-- reads:  {tables}\n"
        "update features_next set name = concat((select max(name) from features), 'x');"
    )
    client = await start_service(sql_dir=sql_dir)
    tags = set()
    for number in range(1, 4):
        await trigger(client)
        assert {row["name"] for row in await features(client)} == {"x" * number}
        tags.add(await etag(client))
    assert len(tags) == 3


async def test_tables_with_the_names_of_aliases_change_nothing(
    client: Client, connection: AsyncConnection
) -> None:
    """The database may be others' too, and they may well have users."""
    for name in ("users", "experiments", "compounds", "totals", "unknown", "rejected"):
        await connection.execute(f"create table {name} (id bigint)")
    await trigger(client)
    await trigger(client)
    assert (await trigger(client))["run"]["unchanged"]
    run = (await trigger(client))["run"]
    assert [step["file"] for step in run["steps"] if not step["kept"]] == []


async def test_an_append_that_makes_a_blank_field_a_value(
    start_service: StartService, data_dir: Path
) -> None:
    """A header that ends in a delimiter: the records say whether that is a column."""
    client = await start_service(max_rejects=ALL)
    users = data_dir / "users.csv"
    users.write_text("user_id,name,email,signup_date,\n1,A,,,\n2,B,,,\n3,C,,\n")
    await trigger(client)
    with users.open("a") as file:
        file.write("4,D,,,x\n")
    runs = [(await trigger(client))["run"], (await trigger(client, full="true"))["run"]]
    rejects = [await get(client, f"/runs/{run['id']}/rejects") for run in runs]
    assert rejects[0] == rejects[1]
    assert loads(runs[0])[2] == loads(runs[1])[2]


RULE = """-- Some users are banned.
-- rejects: user_experiments.user_id
-- reason:  banned
-- reads:   staging.users
select users.user_id, 'banned' as message
from staging.users as users
where users.user_id = 11;
"""


async def test_a_rule_depends_on_the_file_that_it_rejects(
    start_service: StartService, sql_dir: Path, data_dir: Path
) -> None:
    (sql_dir / "clean" / "060_banned.sql").write_text(RULE)
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)
    with (data_dir / "users.csv").open("a") as file:
        file.write("11,Kim,k@example.com,2024-01-01\n")
    run = (await trigger(client))["run"]
    assert [file["rejected"] for file in run["files"]] == [0, 0, 0]
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("99,11,1,1\n")
    run = (await trigger(client))["run"]
    assert [file["rejected_by_reason"] for file in run["files"]] == [
        *({}, {"banned": 1}, {}),
    ]


async def test_a_table_that_the_build_changes_is_loaded_each_time(
    start_service: StartService, sql_dir: Path
) -> None:
    file = sql_dir / "build" / "005_louder.sql"
    file.write_text(
        "-- For a test: changes what was loaded.\n-- reads:  staging.compounds\n"
        "update staging.compounds set compound_name = trim(e' \\t' from compound_name)"
        " || '!';"
    )
    client = await start_service(sql_dir=sql_dir)
    for _ in range(3):
        await trigger(client)
        names = {row["most_common_compound_name"] for row in await features(client)}
        assert names == {"Compound A!", "Compound B!"}
    file.unlink()
    await trigger(client)
    names = {row["most_common_compound_name"] for row in await features(client)}
    assert names == {"Compound A", "Compound B"}


@pytest.mark.plain_postgres("the coordinator counts no rows of a distributed table")
async def test_a_small_table_does_not_grow_with_the_runs(
    client: Client, connection: AsyncConnection
) -> None:
    """Few rows are deleted, and no autovacuum comes: now and then it is truncated."""
    await trigger(client)
    size = "select pg_table_size('features_next')"
    sizes: list[int] = []
    for _ in range(12):
        await connection.execute("select etl.empty_table('features_next')")
        await connection.execute("select pg_stat_force_next_flush()")
        sizes += await (await connection.execute(size)).fetchone() or ()
        await connection.execute(
            "insert into features_next (user_id, total_experiments, avg_experiments,"
            " experiments_pct) select generate_series(1, 1000), 0, 0, 0"
        )
    assert sizes[-1] < max(sizes) / 2
