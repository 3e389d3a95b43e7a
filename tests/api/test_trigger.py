"""/trigger_etl: its answers, one run at a time, and clients that do not wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from etl.settings import RejectLimit, Settings
from tests.support.client import (
    Client,
    StartService,
    begun,
    end_of,
    features,
    get,
    trigger,
)
from tests.support.locks import held_up

NOT_STARTED = "no ETL process was started"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_success(client: Client, method: str) -> None:
    async with client.request(method, "/trigger_etl") as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        answer = await response.json()
    assert list(answer) == ["message", "result", "run"]
    assert answer["message"] == "ETL process started"
    assert answer["result"] == "successfully inserted into database"
    run = answer["run"]
    assert list(run)[:10] == [
        *("id", "state", "phase", "started_at", "finished_at", "seconds"),
        *("files", "steps", "warnings", "error"),
    ]
    assert (run["id"], run["state"], run["error"]) == (1, "succeeded", None)
    assert [file["file"] for file in run["files"]] == [
        *("compounds.csv", "user_experiments.csv", "users.csv")
    ]
    assert list(run["files"][0]) == [
        *("file", "bytes", "sha256", "load", "records", "records_loaded"),
        *("rejected", "rejected_by_reason", "header"),
    ]
    steps = {step["file"]: step for step in run["steps"]}
    assert steps["build/030_features.sql"]["rows"] == 10
    keys = ["file", "sha256", "rows", "milliseconds", "kept"]
    assert list(run["steps"][0]) == keys
    assert await get(client, "/runs/1") == run
    assert await get(client, "/runs") == [run]


async def test_without_waiting(client: Client) -> None:
    async with client.post("/trigger_etl?wait=false") as response:
        assert response.status == 202
        assert response.headers["Location"] == "/runs/1"
        answer = await response.json()
    assert list(answer) == ["message", "result", "run"]
    assert answer["run"]["state"] == "running"
    assert (await end_of(client, 1))["state"] == "succeeded"


async def test_head_and_prefetch_start_no_run(client: Client) -> None:
    async with client.head("/trigger_etl") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, OPTIONS, POST"
    for name in ("Sec-Purpose", "Purpose"):
        headers = {name: "prefetch;prerender"}
        async with client.get("/trigger_etl", headers=headers) as response:
            assert response.status == 403
            assert (await response.json(content_type=None))["message"] == NOT_STARTED
    async with client.put("/trigger_etl") as response:
        assert response.status == 405
        assert (await response.json(content_type=None))["message"] == NOT_STARTED
    assert await get(client, "/runs") == []


async def test_two_triggers_at_once(
    client: Client, start_service: StartService, connection: AsyncConnection
) -> None:
    """Also between two servers: the second gets 409 with the running run."""
    other_server = await start_service()
    async with held_up(connection):
        first = asyncio.create_task(trigger(client))
        assert (await begun(client))["id"] == 1
        for server in (client, other_server):
            refused = await trigger(server, 409)
            assert refused["run"]["id"] == 1
            assert refused["run"]["state"] == "running"
            assert refused["message"] == NOT_STARTED
            assert refused["result"] == refused["detail"] == "a run is in progress"
    assert (await first)["run"]["id"] == 1
    assert (await trigger(other_server))["run"]["id"] == 2


async def test_many_triggers_at_once_are_one_run_at_a_time(client: Client) -> None:
    async def answer() -> int:
        async with client.get("/trigger_etl") as response:
            return response.status

    statuses = await asyncio.gather(*(answer() for _ in range(30)))
    assert set(statuses) <= {200, 409}
    assert statuses.count(200) >= 1
    assert len(await features(client)) == 10
    assert len(await get(client, "/runs")) == statuses.count(200)


async def test_a_run_continues_when_its_client_disconnects(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        caller = asyncio.create_task(trigger(client))
        await begun(client)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert (await end_of(client, 1))["state"] == "succeeded"
    assert len(await features(client)) == 10


async def test_a_failed_run_leaves_the_old_rows(client: Client, data_dir: Path) -> None:
    await trigger(client)
    before = await features(client)
    users = data_dir / "users.csv"
    users.write_text(users.read_text().replace("2023-", "2023/"))
    failed = await trigger(client, 422)
    assert list(failed) == [
        *("type", "title", "status", "detail", "message", "code", "details", "hint"),
        *("result", "run"),
    ]
    assert failed["run"]["state"] == "failed"
    assert failed["run"]["error"] == failed["result"]
    assert failed["run"]["phase"] == "load"
    assert await get(client, "/runs/2") == failed["run"]
    users.unlink()
    assert "users.csv: missing" in (await trigger(client, 422))["result"]
    assert await features(client) == before


async def test_the_published_run_is_the_last_good_one(
    client: Client, connection: AsyncConnection, data_dir: Path
) -> None:
    await trigger(client)
    await trigger(client)
    (data_dir / "users.csv").unlink()
    await trigger(client, 422)
    found = await connection.execute("select run_id from etl.published")
    assert await found.fetchall() == [(2,)]


async def test_a_fault_of_the_service_is_500(
    start_service: StartService, settings: Settings, tmp_path: Path
) -> None:
    sql_dir = tmp_path / "sql"
    _copy_pipeline(settings.sql_dir, sql_dir)
    (sql_dir / "build" / "900_broken.sql").write_text("select from nowhere;")
    client = await start_service(sql_dir=sql_dir)
    failed = await trigger(client, 500)
    assert failed["result"] == (
        'build/900_broken.sql, line 1, column 13: relation "nowhere" does not exist'
    )


def _copy_pipeline(source: Path, target: Path) -> None:
    for path in source.rglob("*.sql"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


async def test_a_dry_run_does_everything_but_publish(
    client: Client, data_dir: Path
) -> None:
    answer = await trigger(client, dry_run="true")
    assert answer["result"] == "dry run: nothing was published"
    run = answer["run"]
    assert (run["state"], run["phase"], run["dry_run"]) == ("succeeded", "check", True)
    assert run["finished_at"] is not None
    assert await features(client) == []
    assert (await trigger(client))["run"]["dry_run"] is False
    (data_dir / "users.csv").unlink()
    assert (await trigger(client, 422, dry_run="true"))["run"]["state"] == "failed"
    assert len(await features(client)) == 10


def empty(data_dir: Path, *names: str) -> None:
    """Leave the header alone of these files."""
    for name in names:
        header, *_ = (data_dir / name).read_text().strip().splitlines()
        (data_dir / name).write_text(header + "\n")


@pytest.mark.parametrize("dry_run", ["true", "false"])
@pytest.mark.parametrize(
    ("names", "found"),
    [
        (
            ["users.csv"],
            "010_users_are_not_all_gone.sql found 1 bad row: "
            "file=users.csv, published_rows=10, new_rows=0",
        ),
        (
            ["user_experiments.csv"],
            "070_experiments_are_not_all_gone.sql found 1 bad row: "
            "file=user_experiments.csv, published_experiments=11, new_experiments=0",
        ),
        (
            ["compounds.csv"],
            "080_compounds_are_not_all_gone.sql found 1 bad row: "
            "file=compounds.csv, published_names=10, new_compounds=0",
        ),
        (
            ["users.csv", "user_experiments.csv", "compounds.csv"],
            "010_users_are_not_all_gone.sql found 1 bad row: "
            "file=users.csv, published_rows=10, new_rows=0",
        ),
    ],
)
async def test_an_empty_file_does_not_empty_the_table(
    client: Client, data_dir: Path, names: list[str], found: str, dry_run: str
) -> None:
    await trigger(client)
    before = await features(client)
    empty(data_dir, *names)
    failed = await trigger(client, 422, dry_run=dry_run)
    assert failed["result"] == (
        f"check/{found}. If that is meant, trigger with ?allow_empty=true"
    )
    assert failed["run"]["allow_empty"] is False
    assert await features(client) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_empty_files_are_published_where_that_is_allowed(
    client: Client, data_dir: Path, method: str
) -> None:
    await trigger(client)
    empty(data_dir, "user_experiments.csv")
    query = {"allow_empty": "true"}
    async with client.request(method, "/trigger_etl", params=query) as response:
        assert response.status == 200
        run = (await response.json())["run"]
    assert run["allow_empty"] is True
    assert run["warnings"] == [
        "check/070_experiments_are_not_all_gone.sql found 1 bad row: "
        "file=user_experiments.csv, published_experiments=11, new_experiments=0"
    ]
    assert await get(client, f"/runs/{run['id']}") == run
    rows = await features(client)
    assert {row["total_experiments"] for row in rows} == {0}
    empty(data_dir, "compounds.csv")  # no name was published
    assert (await trigger(client))["run"]["warnings"] == []
    empty(data_dir, "users.csv")
    await trigger(client, 422)
    assert len((await trigger(client, allow_empty="true"))["run"]["warnings"]) == 1
    assert await features(client) == []
    assert (await trigger(client))["run"]["warnings"] == []


async def test_experiments_of_no_user_at_all_are_rejected_where_that_is_allowed(
    start_service: StartService, data_dir: Path
) -> None:
    client = await start_service()
    await trigger(client)
    empty(data_dir, "users.csv")
    failed = await trigger(client, 422, allow_empty="true")
    assert failed["result"].startswith(
        "user_experiments.csv: 11 of 11 records are rejected"
    )
    lenient = await start_service(max_rejects=RejectLimit.parse("100%"))
    run = (await trigger(lenient, allow_empty="true"))["run"]
    (file,) = [each for each in run["files"] if each["rejected"]]
    assert file["rejected_by_reason"] == {"unknown_user": 11}


async def test_a_header_with_an_unknown_value_stops_a_run_before_it_loads(
    start_service: StartService, sql_dir: Path
) -> None:
    client = await start_service(sql_dir=sql_dir)
    check = sql_dir / "check" / "900_any.sql"
    check.write_text("-- Any.\n-- overridden_by: allow_all\nselect 1 where false;\n")
    failed = await trigger(client, 500)
    assert failed["result"] == (
        'check/900_any.sql: "-- overridden_by: allow_all" is unknown: say allow_empty'
    )
    assert failed["run"]["files"] == []


async def test_old_runs_are_forgotten_but_the_published_one(
    start_service: StartService, data_dir: Path
) -> None:
    client = await start_service(keep_runs=2)
    await trigger(client)
    (data_dir / "users.csv").unlink()
    for _ in range(4):
        await trigger(client, 422)
    async with asyncio.timeout(20):
        while [run["id"] for run in await get(client, "/runs")] != [5, 4, 1]:
            await asyncio.sleep(0.02)


async def test_a_check_may_only_warn(
    start_service: StartService, settings: Settings, tmp_path: Path
) -> None:
    sql_dir = tmp_path / "sql"
    _copy_pipeline(settings.sql_dir, sql_dir)
    (sql_dir / "check" / "900_young.sql").write_text(
        "-- severity: warn\nselect name from features_next where user_id > 8"
        " order by name;"
    )
    client = await start_service(sql_dir=sql_dir)
    answer = await trigger(client)
    assert answer["run"]["warnings"] == [
        "check/900_young.sql found 2 bad rows: name=Ivan; name=Judy"
    ]
    assert len(await features(client)) == 10


async def test_every_query_of_a_check_counts(
    start_service: StartService, sql_dir: Path
) -> None:
    (sql_dir / "check" / "900_two.sql").write_text(
        "select 1 as first; select 2 as second where false;"
    )
    failed = await trigger(await start_service(sql_dir=sql_dir), 422)
    assert failed["result"] == "check/900_two.sql found 1 bad row: first=1"


async def test_a_file_without_a_table_is_a_warning(
    client: Client, data_dir: Path
) -> None:
    (data_dir / "extra.csv").write_text("a,b\n")
    answer = await trigger(client)
    assert answer["run"]["warnings"] == [
        "extra.csv: there is no table staging.extra: not loaded"
    ]


@pytest.mark.parametrize(
    "query",
    ["wait=maybe", "wait=", "wait=true&wait=true", "dry=1", "allow_empty=1"],
)
async def test_wrong_parameters_start_no_run(client: Client, query: str) -> None:
    async with client.get(f"/trigger_etl?{query}") as response:
        assert response.status == 400
        assert response.content_type == "application/problem+json"
    assert await get(client, "/runs") == []
