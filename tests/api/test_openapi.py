"""/openapi.json: valid, complete, and with the columns that the catalog has."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from psycopg import AsyncConnection

from etl.api.openapi import BASE
from tests.support.client import Client, StartService, get, start
from tests.support.events import listening
from tests.support.locks import held_up
from tests.support.tables import MORE_COLUMNS


async def document(client: Client, **headers: str) -> dict[str, Any]:
    async with client.get("/openapi.json", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        return found


def require_valid(found: dict[str, Any]) -> None:
    errors = [str(error) for error in OpenAPIV31SpecValidator(found).iter_errors()]
    assert errors == []


async def test_it_is_valid(client: Client, start_service: StartService) -> None:
    found = await document(client)
    require_valid(found)
    assert found["openapi"] == "3.1.0"
    require_valid({**json.loads(BASE)})
    guarded = await start_service(api_token="run", api_token_read="read")
    require_valid(await document(guarded, Authorization="Bearer read"))


async def test_the_columns_are_described(client: Client) -> None:
    feature = (await document(client))["components"]["schemas"]["Feature"]
    assert list(feature) == ["type", "description", "properties", "x-key", "x-facets"]
    assert feature["type"] == "object"
    assert feature["description"] == "One row per user: how many experiments, on what"
    assert feature["x-key"] == ["user_id"]
    columns = feature["properties"]
    assert list(columns)[:4] == ["user_id", "name", "email", "signup_date"]
    assert columns["user_id"] == {
        "type": "integer",
        "format": "int64",
        "description": "Number of the user",
    }
    assert columns["name"] == {
        "type": ["string", "null"],
        "description": "Name of the user",
    }
    assert columns["signup_date"]["format"] == "date"
    assert columns["avg_experiments"]["type"] == "number"


async def test_a_column_that_sql_adds_is_described_at_once(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(MORE_COLUMNS.encode())
    await connection.execute('alter table features add column """in quotes""" text')
    found = await document(client)
    require_valid(found)
    columns = found["components"]["schemas"]["Feature"]["properties"]
    number = {"type": ["number", "null"], "format": "double"}
    moods = ["good", 'bad "so"', None]
    for name, expected in (
        ("limit", {"type": "integer", "format": "int16"}),
        ("part", {**number, "description": "A part"}),
        ("parts", {"type": ["array", "null"], "items": number}),
        ("mood", {"type": ["string", "null"], "enum": moods}),
        (
            "moods",
            {"type": "array", "items": {"type": ["string", "null"], "enum": moods}},
        ),
        ("pair", {"type": ["object", "null"]}),
        ("seen", {"type": ["string", "null"], "format": "date-time"}),
        ("plain", {"type": ["string", "null"]}),
        ("code", {"type": ["string", "null"]}),
        ("amount", {"type": ["number", "null"]}),
        ("ok", {"type": ["boolean", "null"]}),
        ("words", {}),
        ("id", {"type": ["string", "null"], "format": "uuid"}),
    ):
        assert columns[name] == expected, name
    parameters = {
        each["name"]: each
        for each in found["paths"]["/features"]["get"]["parameters"]
        if "name" in each
    }
    quoted = {r'"a.b, \"c\" (d)"', r'"\"in quotes\""'}
    assert {"part", *quoted} <= set(parameters)
    # A generator of clients would call both `limit`: `and` can filter by it.
    assert '"limit"' not in parameters
    assert parameters["part"]["description"].startswith("A part. A filter: eq, ")
    for listing in ("select", "facet", "order"):
        items = found["components"]["parameters"][listing]["schema"]["items"]
        names, made = items["anyOf"]
        assert made == {"type": "string"}
        assert {"part", '"limit"', *quoted} <= {*names["enum"]}
        for name in names["enum"]:
            async with client.get("/features", params={listing: name}) as response:
                assert response.status == 200, (listing, name)


async def test_filters_are_described_as_they_are_taken(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        "alter table features add column ok boolean, add column tags text[],"
        " add column words jsonb, add column span int4range"
    )
    patterns = {
        each["name"]: each["schema"]["items"]["pattern"]
        for each in (await document(client))["paths"]["/features"]["get"]["parameters"]
        if "schema" in each
    }
    for column, text, good in (
        ("user_id", "eq.1", True),
        ("user_id", "not.gte.1", True),
        ("user_id", "in.(1,2)", True),
        ("user_id", "in.()", True),
        ("user_id", "is.null", True),
        ("name", "not.like.a*", True),
        ("name", "eq.a\nb", True),
        ("ok", "is.unknown", True),
        ("name", "like(any).{a*,b*}", True),
        ("name", "wfts(english).fat -rat", True),
        ("user_id", "isdistinct.1", True),
        ("user_id", "gt(all).{1,2}", True),
        ("tags", "cs.{a}", True),
        ("tags", "ov.{a}", True),
        ("words", 'cs.{"a":1}', True),
        ("span", "adj.[1,2)", True),
        ("user_id", "neq(any).{1}", False),
        ("name", "like(some).{a}", False),
        ("user_id", "in.1", False),
        ("user_id", "1", False),
        ("user_id", "not.not.eq.1", False),
        ("user_id", "between.1", False),
        ("name", "is.nothing", False),
    ):
        assert bool(re.search(patterns[column], text)) is good, (column, text)
        async with client.get("/features", params={column: text}) as response:
            assert (response.status == 200) == good, (column, text)
            assert response.status in (200, 400, 404)


async def test_events_are_described(
    client: Client, connection: AsyncConnection
) -> None:
    """The data of each is of one of two schemas, by the event's name."""
    found = await document(client)
    answers = found["paths"]["/runs/{id}/events"]["get"]["responses"]
    schemas = {"progress": "Progress", "end": "Run"}
    async with AsyncExitStack() as stack:
        async with held_up(connection):
            await start(client)
            listener = await stack.enter_async_context(listening(client))
            events = [await listener.next()]
        events += await listener.rest()
        assert [*answers["200"]["content"]] == [listener.response.content_type]
    assert {name for name, _, _ in events} == schemas.keys()
    for name, _, data in events:
        schema = {"$ref": f"#/components/schemas/{schemas[name]}"}
        OAS31Validator({**found, **schema}).validate(data)


#: The names by which generated clients call the operations: they stay.
OPERATIONS = """
    trigger triggerByPost features feature runs run rejects events cancel charts chart
    files file putFile deleteFile rejectedRecords index healthz readyz metrics openapi
    docs
"""


def test_operations_keep_their_names() -> None:
    paths = json.loads(BASE)["paths"].values()
    names = [each["operationId"] for path in paths for each in path.values()]
    assert set(OPERATIONS.split()) <= set(names)
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z][A-Za-z]*", name) for name in names)


def test_generated_clients_send_nothing_by_themselves() -> None:
    """Some send each default: ``wait=true`` in the query string, against a body."""
    assert '"default":' not in BASE


async def test_a_table_without_key_and_comments(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        "alter table features drop constraint features_pkey;"
        "comment on table features is null; comment on column features.name is null"
    )
    feature = (await document(client))["components"]["schemas"]["Feature"]
    assert feature["x-key"] == []
    assert "description" not in feature
    assert "description" not in feature["properties"]["name"]


@pytest.mark.parametrize(
    ("tokens", "names"),
    [
        ({}, {}),
        ({"api_token": "a"}, {"/trigger_etl": ["API_TOKEN"]}),
        ({"api_token_read": "b"}, {"/features": ["API_TOKEN_READ"]}),
        (
            {"api_token": "a", "api_token_read": "b"},
            {
                "/trigger_etl": ["API_TOKEN"],
                "/features": ["API_TOKEN_READ", "API_TOKEN"],
                "/metrics": ["API_TOKEN_READ", "API_TOKEN"],
            },
        ),
    ],
)
async def test_security_is_described_where_tokens_are_set(
    start_service: StartService, tokens: dict[str, str], names: dict[str, list[str]]
) -> None:
    client = await start_service(**tokens)
    headers = {"Authorization": "Bearer b"} if "api_token_read" in tokens else {}
    found = await document(client, **headers)
    expected = {name for each in names.values() for name in each}
    assert set(found["components"].get("securitySchemes", {})) == expected
    for path in ("/trigger_etl", "/features", "/metrics", "/healthz", "/"):
        for operation in found["paths"].get(path, {}).values():
            schemes: list[dict[str, list[str]]]
            schemes = [{name: []} for name in names.get(path, [])]
            if path in names or not expected:
                assert operation.get("security", []) == schemes
                assert ("401" in operation["responses"]) is (path in names)
    assert "security" not in found["paths"]["/healthz"]["get"]


async def test_an_unknown_parameter_is_refused(client: Client) -> None:
    async with client.get("/openapi.json?x=1") as response:
        assert response.status == 400
    assert await get(client, "/openapi.json")
