"""/metrics: requests, runs, pools and the table, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection

from tests.support.client import Client, StartService, begun, get, trigger
from tests.support.locks import held_up

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: Client) -> Samples:
    async with client.get("/metrics") as response:
        assert response.status == 200
        kind = "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Content-Type"] == kind
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


async def test_requests_are_counted_by_route_and_status(client: Client) -> None:
    await trigger(client)
    for path in ("/features/99", "/features?limit=x", "/features/1", "/features/2"):
        async with client.get(path) as response:
            tag = response.headers.get("ETag", "")
    async with client.get("/features/2", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    await client.head("/features?limit=1")  # a stream is counted after its end
    for path in ("/nothing", "/nothing/else"):
        await client.get(path)
    await client.delete("/features")
    samples = await scrape(client)
    for count, method, route, status in (
        (1, "GET", "/trigger_etl", "200"),
        (2, "GET", "/features/{key}", "200"),
        (1, "GET", "/features/{key}", "304"),
        (1, "GET", "/features/{key}", "404"),
        (1, "GET", "/features", "400"),
        (1, "HEAD", "/features", "200"),
        (2, "none", "none", "404"),
        (1, "none", "none", "405"),
        (None, "GET", "/metrics", "200"),
    ):
        labels = {"method": method, "route": route, "status": status}
        assert value(samples, "http_requests_total", **labels) == count, labels
    labels = {"method": "GET", "route": "/features/{key}"}
    assert value(samples, "http_request_duration_seconds_count", **labels) == 4
    bucket = "http_request_duration_seconds_bucket"
    assert value(samples, bucket, **labels, le="+Inf") == 4
    assert (value(samples, bucket, **labels, le="0.0005") or 0) <= 4
    assert not [name for name, _ in samples if name.endswith("_created")]


async def test_paths_make_no_series(client: Client) -> None:
    """However many there are, and whatever methods are sent."""

    methods = ("DELETE", "PUT", "OPTIONS", "PROPFIND", "MKCOL")

    async def ask(number: int) -> None:
        await client.get(f"/features/{number}?x={number}")
        await client.get(f"/{number}")
        await client.request(methods[number % len(methods)], "/features")

    for number in range(len(methods)):
        await ask(number)
    await scrape(client)
    before = await scrape(client)
    for number in range(20, 40):
        await ask(number)
    assert set(await scrape(client)) == set(before)


async def test_a_run_is_counted_with_all_that_it_did(
    client: Client, data_dir: Path
) -> None:
    samples = await scrape(client)
    for state in ("succeeded", "failed", "interrupted"):
        assert value(samples, "etl_runs_total", state=state) == 0
    assert value(samples, "etl_last_success_timestamp_seconds") is None
    assert value(samples, "etl_features_rows") is None

    users = data_dir / "users.csv"
    users.write_text(users.read_text() + "x,\tBroken,\t,\t\n")
    before = time.time()
    run = (await trigger(client))["run"]
    samples = await scrape(client)
    assert value(samples, "etl_runs_total", state="succeeded") == 1
    assert value(samples, "etl_features_rows") == 10
    at = value(samples, "etl_last_success_timestamp_seconds")
    assert at is not None
    assert before - 1 <= at <= time.time() + 1
    for file in run["files"]:
        records = value(samples, "etl_records_total", file=file["file"])
        rejected = value(samples, "etl_rejected_records_total", file=file["file"])
        assert (records, rejected) == (file["records"], file["rejected"])
    assert value(samples, "etl_rejected_records_total", file="users.csv") == 1
    for step in run["steps"]:
        seconds = value(samples, "etl_step_duration_seconds_sum", file=step["file"])
        assert seconds == pytest.approx(step["milliseconds"] / 1000)
    spent = 0.0
    for phase in ("load", "clean", "build", "check", "publish"):
        count = value(samples, "etl_phase_duration_seconds_count", phase=phase)
        spent += value(samples, "etl_phase_duration_seconds_sum", phase=phase) or 0
        assert count == 1, phase
    assert 0 < spent <= time.time() - before

    users.unlink()
    await trigger(client, 422)
    await trigger(client, 422, dry_run="true")
    samples = await scrape(client)
    assert value(samples, "etl_runs_total", state="failed") == 2
    assert value(samples, "etl_features_rows") == 10
    assert value(samples, "etl_last_success_timestamp_seconds") == at
    assert value(samples, "etl_phase_duration_seconds_count", phase="publish") == 1


async def test_the_database_reports_what_another_server_did(
    client: Client, start_service: StartService, connection: AsyncConnection
) -> None:
    other = await start_service()
    async with held_up(connection):
        running = asyncio.create_task(trigger(other))
        await begun(client)
        assert value(await scrape(client), "etl_runs_under_way") == 1
    await running
    samples = await scrape(client)
    assert value(samples, "etl_runs_under_way") == 0
    assert value(samples, "etl_features_rows") == 10
    assert value(samples, "etl_runs_total", state="succeeded") == 0
    theirs = await scrape(other)
    assert value(theirs, "etl_runs_total", state="succeeded") == 1


async def test_pools(client: Client) -> None:
    await get(client, "/runs")
    samples = await scrape(client)
    for pool, most in (("readers", 20), ("records", 4), ("runners", 5)):
        used = value(samples, "etl_pool_connections", pool=pool, state="used")
        idle = value(samples, "etl_pool_connections", pool=pool, state="idle")
        assert used is not None
        assert idle is not None
        assert 1 <= used + idle <= most
        assert value(samples, "etl_pool_connections_max", pool=pool) == most
        assert value(samples, "etl_pool_waiting", pool=pool) == 0
        assert value(samples, "etl_pool_timeouts_total", pool=pool) == 0
    assert (value(samples, "process_resident_memory_bytes") or 0) > 1e6


async def test_a_client_that_leaves_is_counted_too(
    client: Client, connection: AsyncConnection
) -> None:
    async with held_up(connection):
        caller = asyncio.create_task(trigger(client))
        await begun(client)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
    labels = {"method": "GET", "route": "/trigger_etl"}
    async with asyncio.timeout(30):
        while True:
            samples = await scrape(client)
            if value(samples, "http_request_duration_seconds_count", **labels):
                break
            await asyncio.sleep(0.02)
