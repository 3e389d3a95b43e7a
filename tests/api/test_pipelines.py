"""What a pipeline may change in SQL alone: a column, or everything."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from etl.settings import RejectLimit
from etl.sqlfiles import SqlFileError
from tests.support.client import Client, StartService, features, trigger

NEW_COLUMN = """
alter table features add column longest_run_time double precision;
alter table features_next add column longest_run_time double precision;
comment on column features.longest_run_time is 'The longest run of the user';
"""

FILL_NEW_COLUMN = """
update features_next set longest_run_time = longest.run_time
from (
    select user_id, max(experiment_run_time) as run_time
    from staging.user_experiments group by user_id
) as longest
where features_next.user_id = longest.user_id;
"""


async def test_a_column_is_added_in_sql_alone(
    client: Client, start_service: StartService, sql_dir: Path
) -> None:
    """On a database that is in use, and without a line of Python."""
    await trigger(client)
    (sql_dir / "schema" / "004_longest_run_time.sql").write_text(NEW_COLUMN)
    (sql_dir / "build" / "900_longest_run_time.sql").write_text(FILL_NEW_COLUMN)
    changed = await start_service(sql_dir=sql_dir)
    await trigger(changed)
    rows = await features(changed)
    assert list(rows[0])[-1] == "longest_run_time"
    assert [row["longest_run_time"] for row in rows][:3] == [15, 20, 25]
    async with changed.get("/features/10") as response:
        assert (await response.json())["longest_run_time"] == 60
    async with changed.get("/openapi.json") as response:
        described = (await response.json())["components"]["schemas"]["Feature"]
    assert described["properties"]["longest_run_time"] == {
        "type": ["number", "null"],
        "format": "double",
        "description": "The longest run of the user",
    }


async def test_a_changed_schema_file_is_refused_by_name(
    client: Client, start_service: StartService, sql_dir: Path
) -> None:
    with (sql_dir / "schema" / "001_staging.sql").open("a") as file:
        file.write("-- a word more\n")
    with pytest.raises(SqlFileError, match=r"schema/001_staging\.sql was changed"):
        await start_service(sql_dir=sql_dir)


async def test_a_schema_file_that_is_gone_is_refused_by_name(
    client: Client, start_service: StartService, sql_dir: Path
) -> None:
    (sql_dir / "schema" / "002_features.sql").unlink()
    with pytest.raises(SqlFileError, match=r"newer version: schema/002_features\.sql"):
        await start_service(sql_dir=sql_dir)


async def test_a_schema_file_in_between_is_refused_by_name(
    client: Client, start_service: StartService, sql_dir: Path
) -> None:
    schema = sql_dir / "schema"
    (schema / "000_before.sql").write_text("select 1;")
    with pytest.raises(SqlFileError, match=r"schema/000_before\.sql comes before"):
        await start_service(sql_dir=sql_dir)


async def test_a_schema_file_is_applied_whole_or_not(
    start_service: StartService, sql_dir: Path, database: str
) -> None:
    broken = sql_dir / "schema" / "004_broken.sql"
    broken.write_text("create table half (); select nothing;")
    where = r"^schema/004_broken\.sql, line 1, column 30"
    with pytest.raises(SqlFileError, match=f'{where}: column "nothing" does not exist'):
        await start_service(sql_dir=sql_dir)
    with psycopg.connect(database) as connection:
        found = connection.execute("select to_regclass('half')").fetchone()
        assert found == (None,)
    broken.write_text("create table half ();")
    await start_service(sql_dir=sql_dir)


WEATHER = {
    "schema/001_weather.sql": """
        create schema staging;
        create unlogged table staging.readings (
            station text not null, day date not null, degrees numeric
        );
        create unlogged table staging.notes (line text);
        create table features (station text primary key, warmest numeric, notes bigint);
        create unlogged table features_next (like features);
    """,
    "clean/010_no_nonsense.sql": """
        -- rejects: readings.degrees
        -- reason:  too_warm
        select station, degrees, 'warmer than any place' as message
        from staging.readings
        where degrees > 99;
    """.replace("        --", "--"),
    "build/010_warmest.sql": """
        insert into features_next
        select station, max(degrees), (select count(*) from staging.notes)
        from staging.readings
        where abs(hashtext(station))
            % coalesce(nullif(current_setting('etl.slices', true), ''), '1')::int
            = coalesce(nullif(current_setting('etl.slice', true), ''), '0')::int
        group by station;
    """,
    "check/010_not_too_cold.sql": "select * from features_next where warmest < -90;",
}


async def test_another_pipeline_runs_on_the_same_python(
    start_service: StartService, tmp_path: Path, empty_database: str
) -> None:
    sql_dir, data = tmp_path / "weather", tmp_path / "drops"
    for name, text in WEATHER.items():
        path = sql_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    data.mkdir()
    (data / "notes.csv").write_text('line\nsunny\n\n"fog,\n\nthen rain"\n\n')
    readings = "day;station;degrees\n2024-07-01;Rød/{Å};21.50\n2024-07-02;Rød/{Å};999\n"
    (data / "readings.csv").write_text(readings + "2024-07-01;Bø;-3\n")
    client = await start_service(
        sql_dir=sql_dir,
        data_dir=data,
        database=empty_database,
        max_rejects=RejectLimit.parse("50%"),
    )
    answer = await trigger(client)
    assert [file["records"] for file in answer["run"]["files"]] == [2, 3]
    assert [step["rows"] for step in answer["run"]["steps"]] == [1, 2, 0]
    assert [file["rejected"] for file in answer["run"]["files"]] == [0, 1]
    assert await features(client) == [
        {"station": "Bø", "warmest": -3, "notes": 2},
        {"station": "Rød/{Å}", "warmest": 21.50, "notes": 2},
    ]
    async with client.get("/features/R%C3%B8d%2F%7B%C3%85%7D") as response:
        assert (await response.json())["warmest"] == 21.5
    (data / "readings.csv").write_text("day,station,degrees\n2024-07-01,Bø,-99\n")
    failed = await trigger(client, 422)
    assert failed["result"] == (
        "check/010_not_too_cold.sql found 1 bad row: station=Bø, warmest=-99, notes=2"
    )


async def test_a_pipeline_without_files(
    start_service: StartService, tmp_path: Path, empty_database: str
) -> None:
    """Its ETag, too, is the same for the same SQL, whichever run it was."""
    sql_dir, data = tmp_path / "one", tmp_path / "nothing"
    data.mkdir()
    (sql_dir / "schema").mkdir(parents=True)
    (sql_dir / "build").mkdir()
    (sql_dir / "schema" / "001_one.sql").write_text(
        "create schema staging;"
        "create table features (a integer primary key);"
        "create unlogged table features_next (like features);"
    )
    (sql_dir / "build" / "010_one.sql").write_text(
        "insert into features_next (a) values (1);"
    )
    client = await start_service(
        sql_dir=sql_dir, data_dir=data, database=empty_database
    )
    tags = set()
    for _ in range(2):
        await trigger(client, full="true")
        async with client.get("/features") as response:
            assert await response.json() == [{"a": 1}]
            tags.add(response.headers["ETag"])
    assert len(tags) == 1
