"""Tokens and origins: which requests are allowed, and what other pages may read."""

from __future__ import annotations

import re

import pytest
from multidict import CIMultiDict
from psycopg import AsyncConnection

from etl.api.access import OPEN_ROUTES, RUN_ROUTES, acts
from etl.api.answers import VARY
from tests.support.client import Client, StartService, get, trigger

pytestmark = pytest.mark.any_postgres

RUN, READ = "run-token/=", "read.token"

HERE = "https://app.example.com"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(
    client: Client, path: str, method: str = "GET", **headers: str
) -> tuple[int, CIMultiDict[str]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, headers=names) as response:
        await response.read()
        return response.status, CIMultiDict(response.headers)


async def runs_of(client: Client) -> list[object]:
    async with client.get("/runs", headers=bearer(READ)) as response:
        return list(await response.json())


def routes(client: Client) -> list[tuple[str, str, str]]:
    """Every method and route that the service has, and a path that it takes."""
    found = [
        (route.method, route.resource.canonical)
        for route in client.app.router.routes()
        if route.resource is not None
    ]
    return [(*each, re.sub("{.*?}", "1", each[1])) for each in found]


async def test_no_run_starts_without_a_token(
    start_service: StartService,
) -> None:
    client = await start_service(api_token=RUN)
    for method in ("GET", "POST"):
        async with client.request(method, "/trigger_etl") as response:
            assert response.status == 401
            assert response.content_type == "application/problem+json"
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="features-etl"'
            answer = await response.json()
        assert answer["message"] == "no ETL process was started"
        assert answer["run"] is None
        assert answer["result"] == answer["detail"]
        assert "Authorization: Bearer" in answer["detail"]
    assert await get(client, "/runs") == []
    async with client.get("/trigger_etl", headers=bearer(RUN)) as response:
        assert response.status == 200
    assert len(await get(client, "/features")) == 10


AUTHORIZATIONS = [
    (200, [f"Bearer {RUN}"]),
    (200, [f"bearer {RUN}"]),
    (200, [f"BEARER   {RUN} "]),
    (401, []),
    (401, [""]),
    (401, ["Bearer"]),
    (401, ["Bearer "]),
    (401, [RUN]),
    (401, [f"Basic {RUN}"]),
    (401, [f"Bearer{RUN}"]),
    (401, [f"Bearer {READ}"]),
    (401, [f"Bearer {RUN}x"]),
    (401, [f"Bearer {RUN[:-1]}"]),
    (401, [f"Bearer {RUN.upper()}"]),
    (401, [f"Bearer {RUN} {RUN}"]),
    (401, [f"Bearer {RUN}, Bearer {RUN}"]),
    (401, [f"Bearer \u00e9{RUN}"]),
    (401, ["Bearer " + "x" * 8000]),
    (401, [f"Bearer {RUN}", f"Bearer {RUN}"]),
    (401, ["Bearer wrong", f"Bearer {RUN}"]),
]


async def test_only_the_exact_token_is_valid(
    subtests: pytest.Subtests, start_service: StartService
) -> None:
    client = await start_service(api_token=RUN, api_token_read=READ)
    for status, headers in AUTHORIZATIONS:
        with subtests.test(status=status, headers=headers):
            sent = CIMultiDict([("Authorization", value) for value in headers])
            async with client.post("/trigger_etl", headers=sent) as response:
                assert response.status == status
                if status == 401:
                    wrong = ', error="invalid_token"' if headers else ""
                    assert response.headers["WWW-Authenticate"].endswith(f'etl"{wrong}')
                    assert RUN not in await response.text()


async def test_every_route_asks_for_the_token_that_it_needs(
    start_service: StartService,
) -> None:
    """Open routes are listed; a new one needs a token until it is."""
    client = await start_service(api_token=RUN, api_token_read=READ)
    for method, route, path in routes(client):
        for token, passes in (
            (None, route in OPEN_ROUTES),
            ("wrong", route in OPEN_ROUTES),
            (READ, route in OPEN_ROUTES or not acts(method, route)),
            (RUN, True),
        ):
            headers = bearer(token) if token else {}
            status, _ = await ask(client, path, method, **headers)
            assert (status != 401) is passes, (method, path, token)
    assert {*OPEN_ROUTES, *RUN_ROUTES} <= {route for _, route, _ in routes(client)}
    assert not OPEN_ROUTES & RUN_ROUTES
    # unauthenticated clients may know which routes and methods exist
    assert (await ask(client, "/nothing"))[0] == 404
    assert (await ask(client, "/features", "DELETE"))[0] == 405


async def test_a_token_for_reading_alone_leaves_runs_open(
    start_service: StartService,
) -> None:
    client = await start_service(api_token_read=READ)
    await trigger(client)
    assert (await ask(client, "/features"))[0] == 401
    assert (await ask(client, "/features/1"))[0] == 401
    assert (await ask(client, "/features?limit=x"))[0] == 401
    assert (await ask(client, "/features", **bearer(READ)))[0] == 200


async def test_a_304_needs_the_token_too(start_service: StartService) -> None:
    client = await start_service(api_token_read=READ)
    _, headers = await ask(client, "/features", **bearer(READ))
    tag = headers["ETag"]
    assert (await ask(client, "/features", If_None_Match=tag))[0] == 401
    known = await ask(client, "/features", **bearer(READ), If_None_Match=tag)
    assert known[0] == 304


async def test_other_origins_may_read_nothing_by_default(client: Client) -> None:
    for path in ("/features", "/nothing"):
        _, headers = await ask(client, path, Origin=HERE)
        assert not [name for name in headers if name.startswith("Access-Control")]
        assert "Origin" not in headers.get("Vary", "")
    asked = {"Access_Control_Request_Method": "GET"}
    status, headers = await ask(client, "/features", "OPTIONS", Origin=HERE, **asked)
    assert status == 200
    assert not [name for name in headers if name.startswith("Access-Control")]


async def test_pages_of_a_named_origin_may_read(start_service: StartService) -> None:
    client = await start_service(
        cors_origins=frozenset({HERE, "http://localhost:3000"}), api_token_read=READ
    )
    await trigger(client)
    token = bearer(READ)
    _, tagged = await ask(client, "/features?limit=1", Origin=HERE, **token)
    for path, status, more in (
        ("/features?limit=1", 200, token),
        ("/features?limit=1", 304, {**token, "If_None_Match": tagged["ETag"]}),
        ("/features?format=csv", 200, token),
        ("/features?limit=x", 400, token),
        ("/features", 401, {}),
        ("/nothing", 404, {}),
    ):
        found, headers = await ask(client, path, Origin=HERE, **more)
        assert found == status
        assert headers["Access-Control-Allow-Origin"] == HERE
        assert headers["Vary"].split(", ")[-1] == "Origin"
        exposed = headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Link", "ETag", "X-Total-Count", "X-Run-Id", "Location"} <= set(exposed)
        assert "Access-Control-Allow-Credentials" not in headers
    _, headers = await ask(client, "/features", **token)
    assert headers["Vary"] == f"{VARY}, Origin"
    assert "Access-Control-Allow-Origin" not in headers


HOSTILE = [
    "https://app.example.com.evil.example",
    "https://evil.example/https://app.example.com",
    "https://app.example.com/",
    "https://app.example.com:443",
    "http://app.example.com",
    "https://APP.example.com",
    "null",
    "*",
    "",
    "https://\u00e9.example",
    "x" * 8000,
]


async def test_hostile_origins_read_nothing(
    subtests: pytest.Subtests, start_service: StartService
) -> None:
    client = await start_service(cors_origins=frozenset({HERE}))
    asked = {"Access_Control_Request_Method": "GET"}
    for origin in HOSTILE:
        with subtests.test(origin=origin):
            for method, more in (("GET", {}), ("OPTIONS", asked)):
                status, headers = await ask(
                    client, "/runs", method, Origin=origin, **more
                )
                assert status == 200
                assert not [
                    name for name in headers if name.startswith("Access-Control")
                ]
                assert headers["Vary"] == "Origin"


async def test_several_origins_at_once_are_none(start_service: StartService) -> None:
    client = await start_service(cors_origins=frozenset({HERE}))
    twice = CIMultiDict([("Origin", HERE), ("Origin", "https://evil.example")])
    async with client.get("/runs", headers=twice) as response:
        assert response.status == 200
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_preflights(start_service: StartService) -> None:
    """They need no token, since browsers send none, and start nothing."""
    client = await start_service(
        cors_origins=frozenset({HERE}), api_token=RUN, api_token_read=READ
    )
    for _, _, path in routes(client):
        for asked in ("GET", "POST", "DELETE"):
            status, headers = await ask(
                client,
                path,
                "OPTIONS",
                Origin=HERE,
                Access_Control_Request_Method=asked,
                Access_Control_Request_Headers="authorization",
            )
            assert status == 204
            assert headers["Access-Control-Allow-Origin"] == HERE
            methods = headers["Access-Control-Allow-Methods"].split(", ")
            assert {"GET", "HEAD", "POST", "PUT", "DELETE"} <= {*methods}
            allowed = headers["Access-Control-Allow-Headers"].split(", ")
            assert {"Authorization", "Content-Type", "Prefer", "Range"} <= {*allowed}
            assert "*" in allowed  # all others
    assert (await ask(client, "/trigger_etl", "OPTIONS", Origin=HERE))[0] == 200
    assert await runs_of(client) == []


async def test_any_origin(start_service: StartService) -> None:
    client = await start_service(cors_origins=frozenset({"*"}))
    for origin in ({}, {"Origin": "https://anyone.example"}, {"Origin": "null"}):
        status, headers = await ask(client, "/runs", **origin)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("tokens", [{}, {"api_token": RUN, "api_token_read": READ}])
@pytest.mark.parametrize("origins", [frozenset(), frozenset({HERE})])
async def test_unknown_methods_are_errors_everywhere(
    start_service: StartService,
    connection: AsyncConnection,
    tokens: dict[str, str],
    origins: frozenset[str],
) -> None:
    client = await start_service(cors_origins=origins, **tokens)
    for _, _, path in routes(client):
        for method in ("OPTIONS", "HEAD", "PUT", "DELETE", "TRACE", "ODD"):
            async with client.request(method, path) as response:
                assert response.status in (200, 400, 401, 404, 405), (method, path)
                if response.status == 405:
                    assert response.content_type == "application/problem+json"
                if response.status == 405 or method == "OPTIONS":
                    allowed = set(response.headers["Allow"].split(", "))
                    assert allowed & {"GET", "POST"}
                    assert "OPTIONS" in allowed
                if method == "OPTIONS":
                    assert response.status == 200
                    assert response.headers["Content-Length"] == "0"
    found = await connection.execute("select count(*) from etl.runs")
    assert await found.fetchone() == (0,)
