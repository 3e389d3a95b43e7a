"""Reading: /features whole and by key, runs, health, and the shape of errors."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network

import pytest
from aiohttp import ClientPayloadError, ClientResponse
from psycopg import AsyncConnection

from etl.http.streams import MAX_STREAMS, MAX_STREAMS_OF_CLIENT
from tests.support.client import Client, StartService, features, trigger
from tests.support.tables import FILL, ROWS


async def test_before_any_run(client: Client) -> None:
    async with client.get("/features") as response:
        assert (response.status, await response.text()) == (200, "[]\n")
        assert response.content_type == "application/json"
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as response:
            assert response.status == 200


async def test_every_row_is_streamed(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    rows = await features(client)
    assert [row["user_id"] for row in rows] == list(range(1, ROWS + 1))
    assert rows[6]["name"] == "User 7" + 700 * "x"
    assert rows[6]["email"] == '\t"\\'


async def test_a_row_by_its_key(client: Client) -> None:
    await trigger(client)
    async with client.get("/features/3") as response:
        assert response.status == 200
        carol = await response.json()
    assert carol == (await features(client))[2]
    for key in ("11", "Carol", "3;", "99999999999999999999", "%00", "%C3%A9"):
        async with client.get(f"/features/{key}") as response:
            assert response.status == 404, key
            assert response.content_type == "application/problem+json"


async def test_an_error_in_the_middle_breaks_the_transfer(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    async with client.get("/features") as response:
        assert response.status == 200
        await response.content.readany()
        ended = await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like 'copy%' and datname = current_database()"
        )
        assert await ended.fetchall() == [(True,)]
        with pytest.raises(ClientPayloadError):
            while await response.content.readany():
                pass
    assert len(await features(client)) == ROWS


async def test_a_client_that_leaves_frees_its_connection(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(FILL)
    for _ in range(30):  # more often than there are connections for readers
        response = await client.get("/features")
        await response.content.readany()
        response.close()
    async with asyncio.timeout(30):
        assert len(await features(client)) == ROWS


async def test_slow_readers_leave_connections_for_others(
    start_service: StartService, connection: AsyncConnection
) -> None:
    """And streams for those with another address, or of IPv6 in another /64."""
    client = await start_service(trusted_proxies=(ip_network("127.0.0.1"),))
    await connection.execute(FILL)
    # More than a system keeps for a client that does not read: 32 MB, say.
    await connection.execute("update features set name = repeat(name, 3)")
    answers: list[ClientResponse] = []

    async def read(address: str) -> ClientResponse:
        headers = {"X-Forwarded-For": f"192.0.2.66, {address}"}
        answers.append(await client.get("/features", headers=headers))
        return answers[-1]

    for addresses in ("192.0.2.1", "2001:db8::{}"):
        for number in range(MAX_STREAMS_OF_CLIENT):
            assert (await read(addresses.format(number))).status == 200
        refused = await read(addresses.format("ffff"))
        assert refused.status == 503
        assert refused.headers["Retry-After"]
        assert "for your address" in await refused.text()
    assert len(answers) == MAX_STREAMS + 2
    refused = await read("192.0.2.3")
    assert refused.status == 503
    assert "for all clients" in await refused.text()
    for path in ("/readyz", "/features/1", "/runs"):
        async with client.get(path) as response:
            assert response.status == 200
    for answer in answers:
        answer.close()


async def test_head_reads_nothing(client: Client) -> None:
    async with client.head("/features") as response:
        assert response.status == 200
        assert response.content_type == "application/json"


ERRORS = [
    ("GET", "/nowhere", 404),
    ("GET", "/runs/1", 404),
    ("GET", "/runs/one", 404),
    ("GET", "/runs/99999999999999999999", 404),
    ("GET", "/features?limit=x", 400),
    ("GET", "/runs?page=2", 400),
    ("DELETE", "/features", 405),
    ("PUT", "/trigger_etl", 405),
]


async def test_errors_are_problems(subtests: pytest.Subtests, client: Client) -> None:
    for method, path, status in ERRORS:
        with subtests.test(method=method, path=path, status=status):
            async with client.request(method, path) as response:
                assert response.status == status
                assert response.content_type == "application/problem+json"
                body = json.loads(await response.read())
            assert body["status"] == status
            members = ["type", "title", "status", "detail"]
            members += ["message", "code", "details", "hint"]
            if path == "/trigger_etl":
                members += ["result", "run"]
            assert list(body) == members
