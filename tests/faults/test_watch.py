"""WATCH: a run starts when the files have changed and come to rest."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from etl.api.app_keys import RUNNER
from etl.run.watch import Watcher, source_paths
from etl.settings import Settings
from tests.support.client import Client, StartService, begun, get, trigger
from tests.support.databases import OwnPostgres, migrate_shipped
from tests.support.locks import held_up, waits_for_a_lock

NEW_USER = "11,Kim,kim@example.com,2024-01-01\n"


@dataclass
class Looks:
    """A watcher whose looks are taken one by one, over files that a test changes."""

    watcher: Watcher
    client: Client
    folder: Path
    started: list[None]

    async def take(self, count: int = 1) -> str:
        """Take looks; what is waited for after the last."""
        for _ in range(count):
            await self.watcher.look()
        return str(self.watcher.summary["waits_for"])

    async def runs(self) -> list[dict[str, Any]]:
        """All runs, the oldest first."""
        return list(reversed(await get(self.client, "/runs")))

    def write(self, name: str, text: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)


async def looks_of(client: Client, settings: Settings, seconds: float = 5) -> Looks:
    started: list[None] = []
    conninfo = settings.database or ""
    async with await AsyncConnection.connect(conninfo) as connection:
        paths = await source_paths(connection, settings.data_dir)
    runner = client.app[RUNNER]
    watcher = Watcher(runner, paths, seconds, lambda: started.append(None))
    return Looks(watcher, client, settings.data_dir, started)


@pytest.fixture
async def looks(client: Client, settings: Settings) -> Looks:
    """Looks that have not begun yet, over a copy of the shipped data."""
    return await looks_of(client, settings)


@pytest.fixture
async def watched(looks: Looks) -> Looks:
    """Looks after the run of the start."""
    assert await looks.take(2) == "change"
    return looks


async def test_a_start_begins_one_run(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl.run.watch")
    assert looks.watcher.summary["looked_at"] is None
    assert await looks.take() == "rest"
    assert await looks.runs() == []
    assert await looks.take() == "change"
    assert await looks.take(3) == "change"
    assert [run["state"] for run in await looks.runs()] == ["succeeded"]
    assert len(looks.started) == 1
    assert caplog.messages == ["WATCH started run 1: the service has started"]


async def test_a_change_starts_one_run_and_the_log_says_why(
    watched: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl.run.watch")
    watched.write("users.csv", NEW_USER)
    (watched.folder / "compounds.csv").touch()
    assert await watched.take() == "rest"
    assert len(await watched.runs()) == 1
    assert await watched.take(3) == "change"
    runs = await watched.runs()
    assert [run["state"] for run in runs] == ["succeeded", "succeeded"]
    assert len(await get(watched.client, "/features")) == 11
    assert caplog.messages == [
        "WATCH started run 2: compounds.csv has changed, users.csv has changed"
    ]


async def test_no_run_starts_while_a_file_changes(watched: Looks) -> None:
    for number in range(11, 16):
        watched.write("users.csv", NEW_USER.replace("11", str(number)))
        assert await watched.take() == "rest"
    assert len(await watched.runs()) == 1
    assert await watched.take(2) == "change"
    assert len(await watched.runs()) == 2
    assert len(await get(watched.client, "/features")) == 15


async def test_two_changes_before_the_files_rest_are_one_run(watched: Looks) -> None:
    watched.write("users.csv", NEW_USER)
    assert await watched.take() == "rest"
    watched.write("compounds.csv", "99,Compound Z,C\n")
    assert await watched.take() == "rest"
    await watched.take(3)
    assert len(await watched.runs()) == 2


async def test_other_files_of_the_folder_are_not_watched(watched: Looks) -> None:
    watched.write("notes.csv", "a,b\n")
    watched.write("users.csv.part", NEW_USER)
    assert await watched.take(3) == "change"
    assert len(await watched.runs()) == 1


async def test_a_file_that_is_replaced_for_a_moment_starts_nothing(
    watched: Looks,
) -> None:
    path = watched.folder / "users.csv"
    path.rename(path.with_suffix(".old"))
    assert await watched.take() == "rest"
    path.with_suffix(".old").rename(path)
    assert await watched.take(3) == "change"
    assert len(await watched.runs()) == 1


async def test_a_change_during_a_run_starts_another(
    watched: Looks, connection: AsyncConnection
) -> None:
    watched.write("users.csv", NEW_USER)
    await watched.take()
    async with held_up(connection):
        looking = asyncio.create_task(watched.take())
        await begun(watched.client)
        await waits_for_a_lock(connection)
        assert watched.watcher.summary["waits_for"] == "run"
        watched.write("users.csv", NEW_USER.replace("11", "12"))
    await looking
    assert await watched.take() == "rest"
    assert await watched.take(2) == "change"
    assert len(await watched.runs()) == 3
    assert len(await get(watched.client, "/features")) == 12


async def test_a_failing_file_is_tried_once_and_again_when_it_is_fixed(
    watched: Looks,
) -> None:
    path = watched.folder / "users.csv"
    good = path.read_text()
    path.write_text("no header that is known\n")
    assert await watched.take(6) == "change"
    runs = await watched.runs()
    assert [run["state"] for run in runs] == ["succeeded", "failed"]
    path.write_text(good)
    assert await watched.take(3) == "change"
    assert [run["state"] for run in await watched.runs()][1:] == ["failed", "succeeded"]


async def test_a_file_that_is_missing_is_tried_once(
    watched: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl.run.watch")
    (watched.folder / "users.csv").unlink()
    assert await watched.take(6) == "change"
    _, failed = await watched.runs()
    assert failed["error"].startswith("users.csv: ")
    assert caplog.messages[0] == "WATCH started run 2: users.csv is missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_that_may_be_read_again_is_tried_again(watched: Looks) -> None:
    path = watched.folder / "users.csv"
    path.chmod(0)
    assert await watched.take(6) == "change"
    path.chmod(0o644)
    assert await watched.take(3) == "change"
    states = [run["state"] for run in await watched.runs()]
    assert states == ["succeeded", "failed", "succeeded"]


async def test_a_run_that_was_cancelled_is_not_repeated(
    looks: Looks, connection: AsyncConnection
) -> None:
    await looks.take()
    async with held_up(connection):
        looking = asyncio.create_task(looks.take())
        run = await begun(looks.client)
        async with looks.client.post(f"/runs/{run['id']}/cancel") as response:
            assert response.status < 300
        await looking
    assert await looks.take(3) == "change"
    assert len(await looks.runs()) == 1


async def test_a_fault_of_the_service_is_tried_again_with_growing_pauses(
    start_service: StartService,
    settings: Settings,
    sql_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = sql_dir / "build" / "990_broken.sql"
    broken.write_text(
        "-- For a test: nothing has this table.\nselect 1 from nowhere;\n"
    )
    looks = await looks_of(await start_service(sql_dir=sql_dir), settings, 100)
    assert await looks.take(2) == "retry"
    tried = [len(looks.started)]
    for _ in range(20):
        assert await looks.take() == "retry"
        tried.append(len(looks.started))
    # after 1, 2, 4 and then each 6 looks of 100 s
    assert tried == [1, 2, 2, 3, 3, 3, 3, 4, *[4] * 5, *[5] * 6, *[6] * 2]
    assert "WATCH tries again in 600 s: build/990_broken.sql" in caplog.text
    assert all(run["state"] == "failed" for run in await looks.runs())
    # a change ends the pause, and the next pauses are short again
    looks.write("users.csv", NEW_USER)
    assert await looks.take() == "rest"
    assert await looks.take(2) == "retry"
    assert len(looks.started) == 8
    broken.unlink()
    await looks.take(2)
    assert (await looks.runs())[-1]["state"] == "succeeded"
    assert await looks.take(3) == "change"
    assert len(looks.started) == 9


async def test_a_database_that_was_away_is_tried_again(
    own_postgres: OwnPostgres, settings: Settings, start_service: StartService
) -> None:
    await migrate_shipped(own_postgres.conninfo)
    settings = replace(settings, database=own_postgres.conninfo)
    client = await start_service(database=own_postgres.conninfo)
    looks = await looks_of(client, settings)
    await looks.take()
    own_postgres.stop()
    assert await looks.take() == "retry"
    assert looks.started == []
    own_postgres.start()
    assert await looks.take() == "change"
    assert [run["state"] for run in await looks.runs()] == ["succeeded"]


async def test_a_run_of_this_server_is_waited_for(
    looks: Looks, connection: AsyncConnection
) -> None:
    await looks.take()
    async with held_up(connection):
        other = asyncio.create_task(trigger(looks.client))
        await begun(looks.client)
        assert await looks.take(10) == "run"
    await other
    assert looks.started == []
    assert await looks.take() == "change"
    assert len(await looks.runs()) == 2


async def test_a_run_of_another_server_is_tried_again_after(
    looks: Looks, connection: AsyncConnection, start_service: StartService
) -> None:
    other = await start_service()
    await looks.take()
    async with held_up(connection):
        running = asyncio.create_task(trigger(other))
        await begun(other)
        assert await looks.take() == "retry"
    await running
    assert await looks.take() == "change"
    assert len(await looks.runs()) == 2


async def test_an_error_that_nobody_expects_ends_no_watching(
    looks: Looks, caplog: pytest.LogCaptureFixture, connection: AsyncConnection
) -> None:
    rename = "alter function etl.{} rename to {}"
    await connection.execute(rename.format("begin_run", "gone").encode())
    looked: list[str] = []

    async def pause(seconds: float) -> None:
        looked.append(looks.watcher.summary["waits_for"])
        if len(looked) == 2:
            await connection.execute(rename.format("gone", "begin_run").encode())
        if len(looked) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await looks.watcher.watch(pause)
    assert looked == ["rest", "retry", "change", "change"]
    assert "WATCH tries again in 5 s: function etl.begin_run" in caplog.text


async def test_the_watch_ends_with_the_service(looks: Looks) -> None:
    async def pause(seconds: float) -> None:
        if looks.watcher.summary["waits_for"] == "rest":
            await looks.client.app[RUNNER].stop()

    await looks.watcher.watch(pause)
    assert looks.started == []


@asynccontextmanager
async def published(connection: AsyncConnection) -> AsyncIterator[None]:
    """Wait at the end of the with block for a run that publishes."""
    await connection.execute("listen features")
    yield
    async with asyncio.timeout(60):
        async for _ in connection.notifies():
            break


async def test_the_service_watches(
    start_service: StartService, connection: AsyncConnection, data_dir: Path
) -> None:
    async with published(connection):
        client = await start_service(watch=0.1)
    async with published(connection):
        with (data_dir / "users.csv").open("a") as file:
            file.write(NEW_USER)
    assert len(await get(client, "/features")) == 11
    health = await get(client, "/healthz")
    assert health["status"] == "ok"
    assert health["watch"].keys() == {"seconds", "looked_at", "waits_for"}
    assert health["watch"]["seconds"] == 0.1
    async with client.get("/metrics") as response:
        assert "etl_watch_runs_total 2.0\n" in await response.text()


async def test_a_stop_ends_a_run_that_was_started_so(
    start_service: StartService,
    connection: AsyncConnection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await start_service(watch=0.1)
    async with held_up(connection):
        run = await begun(client)
        await waits_for_a_lock(connection)
        async with asyncio.timeout(20):
            await client.close()
    rows = await connection.execute("select id, state from etl.runs")
    assert await rows.fetchall() == [(run["id"], "interrupted")]
    assert "WATCH tries again" not in caplog.text


async def test_without_the_setting_nothing_is_watched(client: Client) -> None:
    async with client.get("/healthz") as response:
        assert json.loads(await response.text()) == {"status": "ok", "watch": None}
