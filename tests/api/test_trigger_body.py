"""A body on /trigger_etl: read like the query string, or refused; never ignored."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from aiohttp import FormData
from aiohttp.test_utils import make_mocked_request

from etl.http.bodies import media_type
from etl.http.parameters import MAX_BODY_BYTES
from tests.support.client import Client, end_of, features, get

pytestmark = pytest.mark.any_postgres

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, '{"dry_run": true, "wait": false}'),
        (JSON, '\ufeff{"dry_run": "true", "wait": "false"}\n'),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, '{"dry_run": true}'),
        (FORM, "dry_run=true&wait=false"),
        (FORM, "dry_run=tru%65"),
    ],
)
async def test_it_is_read_like_the_query_string(
    client: Client, method: str, headers: dict[str, str], body: str
) -> None:
    wait = "wait" not in body
    async with client.request(
        method, "/trigger_etl", data=body.encode(), headers=headers
    ) as response:
        assert response.status == (200 if wait else 202)
        answer = await response.json()
    assert answer["message"] == "ETL process started"
    assert answer["run"]["dry_run"] is True
    assert (await end_of(client, 1))["state"] == "succeeded"
    assert await features(client) == []


async def test_query_string_and_body_are_taken_together(client: Client) -> None:
    path = "/trigger_etl?dry_run=true"
    async with client.post(path, json={"wait": False, "dry_run": True}) as response:
        assert response.status == 202
    assert (await end_of(client, 1))["dry_run"] is True


KINDS = ["application/json", "multipart/form-data", "x", None]

CHUNKED = [True, False]


async def test_an_empty_body_says_nothing(
    subtests: pytest.Subtests, client: Client
) -> None:
    for kind in KINDS:
        for is_chunked in CHUNKED:
            with subtests.test(kind=kind, is_chunked=is_chunked):
                headers = {"Content-Type": kind} if kind else {}
                skipped = [] if kind else ["Content-Type"]
                async with client.post(
                    "/trigger_etl",
                    data=b"",
                    headers=headers,
                    chunked=is_chunked or None,
                    skip_auto_headers=skipped,
                ) as response:
                    assert response.status == 200
                    assert (await response.json())["run"]["dry_run"] is False


LONG = "x" * MAX_BODY_BYTES

REFUSED: list[tuple[dict[str, str], str | bytes, int, str]] = [
    (JSON, '{"dry": true}', 400, "unknown parameter 'dry'; allowed: wait, dry_run, "),
    (JSON, '{"dry_run": 1}', 400, "dry_run is true or false, not '1'"),
    (JSON, '{"dry_run": null}', 400, "dry_run is true or false, not 'null'"),
    (JSON, '{"dry_run": {"a": [1]}}', 400, "dry_run is true or false, not '"),
    (JSON, '{"wait": "TRUE"}', 400, "wait is true or false, not 'TRUE'"),
    (JSON, '{"wait": true, "wait": true}', 400, "'wait' appears more than once"),
    (JSON, '{"wait": true', 400, "the body is not JSON: "),
    (JSON, " ", 400, "the body is not JSON: "),
    (JSON, "[" * 60_000, 400, "the body is not JSON"),
    (JSON, "1" * 60_000, 400, "the body is not JSON that can be read"),
    (JSON, "[]", 400, 'the body is not a JSON object such as {"wait": false}'),
    (JSON, "true", 400, "the body is not a JSON object"),
    (JSON, b'{"\xff": true}', 400, "the body is not UTF-8: byte 3"),
    (FORM, "dry=true", 400, "unknown parameter 'dry'"),
    (FORM, "dry_run", 400, "dry_run is true or false, not ''"),
    (FORM, "wait=true&wait=true", 400, "'wait' appears more than once"),
    (FORM, "wait=%ff", 400, "the body is not UTF-8: byte 1"),
    (FORM, '{"dry_run": true}', 400, "send JSON with the header Content-Type: app"),
    (JSON, json.dumps({"wait": LONG}), 413, "the body is longer than 65536 bytes"),
    (FORM, f"wait={LONG}", 413, "the body is longer than 65536 bytes"),
    ({"Content-Type": "text/plain"}, "x", 415, "a body is application/json or appli"),
    ({"Content-Type": "text/json"}, "{}", 415, "not 'text/json'"),
    ({"Content-Type": "application/xml"}, LONG * 9, 415, "not 'application/xml'"),
    ({"Content-Type": "", "X": "1"}, "{}", 415, "not 'application/octet-stream'"),
    (
        {**JSON, "Content-Encoding": "gzip"},
        gzip.compress(b'{"dry_run": true}'),
        415,
        "send the body unpacked",
    ),
]


async def test_what_cannot_be_read_starts_no_run(client: Client) -> None:
    for headers, body, status, message in REFUSED:
        data = body if isinstance(body, bytes) else body.encode()
        async with client.post("/trigger_etl", data=data, headers=headers) as response:
            answer = await response.json(content_type=None)
            assert response.status == status, answer
            assert response.content_type == "application/problem+json"
        assert message in answer["detail"]
        assert len(answer["detail"]) < 200
        assert "\n" not in answer["detail"]
        assert answer["result"] == answer["detail"]
        assert answer["message"] == "no ETL process was started"
        assert answer["run"] is None
    assert await get(client, "/runs") == []


async def test_multipart_and_contradictions_start_no_run(client: Client) -> None:
    form = FormData({"dry_run": "true"}, default_to_multipart=True)
    async with client.post("/trigger_etl", data=form) as response:
        assert response.status == 415
    path = "/trigger_etl?dry_run=false"
    async with client.post(path, json={"dry_run": True}) as response:
        assert response.status == 400
        answer = await response.json(content_type=None)
    assert answer["detail"] == (
        "dry_run is 'false' in the query string and 'true' in the body: send one"
    )
    assert await get(client, "/runs") == []


async def test_a_body_that_breaks_off_starts_no_run(client: Client) -> None:
    _, writer = await asyncio.open_connection(client.host, client.port)
    head = "POST /trigger_etl HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    writer.write(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with client.post("/trigger_etl?dry_run=true") as response:
        assert (await response.json())["run"]["id"] == 1


async def test_the_description_has_every_parameter(client: Client) -> None:
    document = await get(client, "/openapi.json")
    trigger = document["paths"]["/trigger_etl"]["post"]
    assert trigger["requestBody"] == {"$ref": "#/components/requestBodies/Trigger"}
    body = document["components"]["schemas"]["TriggerBody"]
    assert {"wait", "dry_run", "allow_empty"} <= set(body["properties"])
    assert body["properties"]["dry_run"]["type"] == "boolean"
    assert body["additionalProperties"] is False


def test_a_long_type_is_read_once() -> None:
    """One whose parameters are parsed would take hours."""
    headers = {"Content-Type": "Text/CSV" + "; a=b" * 1_000_000}
    assert media_type(make_mocked_request("PUT", "/", headers)) == "text/csv"
