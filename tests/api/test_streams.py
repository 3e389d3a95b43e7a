"""Streams whose readers are slow, stall or leave: nobody waits, nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tracemalloc
from collections.abc import AsyncGenerator
from math import inf

import pytest
from psycopg import AsyncConnection

from etl.http.streams import STREAMS
from tests.support.client import Client, app_of, features, stalled_reader, trigger
from tests.support.locks import waits_for_a_lock
from tests.support.tables import FILL, ROWS

#: Bytes: some chunks of rows on their way, and not a tenth of what is sent.
MOST_MEMORY = 8 << 20


async def until_nobody_reads(connection: AsyncConnection) -> None:
    """Until no other session is in a transaction or a statement."""
    async with asyncio.timeout(30):
        while True:
            rows = await connection.execute(
                "select count(*) from pg_stat_activity where state <> 'idle'"
                " and datname = current_database() and pid <> pg_backend_pid()"
                " and backend_type = 'client backend'"
            )
            if await rows.fetchone() == (0,):
                return
            await asyncio.sleep(0.02)


async def ends_incomplete(reader: asyncio.StreamReader) -> None:
    """Require that what is left of an answer does not end as a whole one does."""
    end = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(1 << 16):
            end = (end + chunk)[-8:]
    assert b"\r\n0\r\n\r\n" not in end


@pytest.mark.parametrize(
    ("query", "coding"),
    [("", "identity"), ("?format=csv", "identity"), ("?order=name.desc", "gzip")],
)
async def test_memory_is_flat(
    client: Client, connection: AsyncConnection, query: str, coding: str
) -> None:
    await connection.execute(FILL)
    tracemalloc.start()
    try:
        sent = 0
        headers = {"Accept-Encoding": coding}
        async with client.get(f"/features{query}", headers=headers) as response:
            assert response.status == 200
            async for chunk in response.content.iter_any():
                sent += len(chunk)
        assert sent > 3 * MOST_MEMORY
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


async def test_the_formats_hold_the_same_rows(
    client: Client, connection: AsyncConnection
) -> None:
    """And are what COPY by hand gives."""
    await connection.execute(FILL)
    rows = await features(client)
    async with client.get("/features?format=ndjson") as response:
        lines = (await response.text()).splitlines()
    assert [json.loads(line) for line in lines] == rows
    copied = hashlib.sha256()
    async with (
        connection.cursor() as cursor,
        cursor.copy("copy (table features) to stdout (format csv, header)") as copy,
    ):
        async for row in copy:
            copied.update(row)
    async with client.get("/features?format=csv") as response:
        assert hashlib.sha256(await response.read()).digest() == copied.digest()


async def test_a_stalled_reader_stops_no_run(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    async with stalled_reader(client):
        assert (await trigger(client))["run"]["state"] == "succeeded"
        assert len(await features(client)) == 10
    await until_nobody_reads(connection)


@pytest.mark.parametrize("bound", ["STALLED_SECONDS", "STREAM_SECONDS"])
async def test_a_stalled_reader_is_closed(
    client: Client,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
) -> None:
    await connection.execute(FILL)
    monkeypatch.setattr(f"etl.http.sending.{bound}", 0.2)
    async with stalled_reader(client) as reader:
        await until_nobody_reads(connection)
        await ends_incomplete(reader)


async def test_a_slow_reader_gives_its_stream_to_others(
    client: Client, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But only where none is free, and none before it is slow."""
    await connection.execute(FILL)
    streams = app_of(client)[STREAMS]
    async with stalled_reader(client) as reader:
        async with asyncio.timeout(30):
            while inf in [each.taking_since for each in streams.in_progress]:
                await asyncio.sleep(0.02)
        monkeypatch.setattr("etl.http.streams.MAX_STREAMS_OF_CLIENT", 1)
        async with client.get("/features?format=csv") as response:
            assert response.status == 503
        monkeypatch.setattr("etl.http.streams.SLOW_SECONDS", 0)
        async with client.get("/features?format=csv") as response:
            assert response.status == 200
            assert len((await response.read()).splitlines()) == ROWS + 1
        await ends_incomplete(reader)
    await until_nobody_reads(connection)


async def test_a_reader_gets_the_rows_it_began_with(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    async with client.get("/features") as response:
        first = await response.content.readany()
        await trigger(client)
        rest = await response.content.read()
    assert len(json.loads(first + rest)) == ROWS


async def test_a_client_that_leaves_before_the_first_row(
    client: Client, connection: AsyncConnection
) -> None:
    await trigger(client)
    async with connection.transaction():
        await connection.execute("lock table features in access exclusive mode")
        reading = asyncio.create_task(client.get("/features"))
        await waits_for_a_lock(connection)
        reading.cancel()
        await waits_for_a_lock(connection, 0)
    assert len(await features(client)) == 10


async def test_a_first_row_that_takes_too_long(
    client: Client, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trigger(client)

    async def wait_for_ever(*_: object, **__: object) -> AsyncGenerator[bytes]:
        await asyncio.Event().wait()
        yield b""

    monkeypatch.setattr("etl.api.answers.stream", wait_for_ever)
    monkeypatch.setattr("etl.http.sending.STALLED_SECONDS", 0.05)
    async with client.get("/features?format=ndjson") as response:
        assert response.status == 504
    monkeypatch.undo()
    assert len(await features(client)) == 10
