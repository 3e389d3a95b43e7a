"""Headers of answers, whatever the route: links, lengths, codings, what may be done."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from etl import parsers
from etl.settings import RejectLimit
from tests.support.client import Client, StartService, app_of, trigger

pytestmark = pytest.mark.any_postgres

#: What a proxy on the loopback adds to a request.
PROXY = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "data.example.com",
    "X-Forwarded-Prefix": "/lab",
}


async def links(client: Client, path: str, **headers: str) -> dict[str, URL]:
    """The URLs of the header Link, by relation."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.get(path, headers=names) as response:
        assert response.status == 200
        parts = response.headers.get("Link", "").split(", ")
    found = (part.partition("; ") for part in parts if part)
    return {rel[5:-1]: URL(url[1:-1]) for url, _, rel in found}


@pytest.fixture
async def service(start_service: StartService, data_dir: Path) -> Client:
    """A service behind a proxy that has run twice, and has rejected records."""
    with (data_dir / "users.csv").open("a") as users:
        users.writelines(
            f"\nx{number},a name,an address,2024-01-01" for number in (1, 2)
        )
    client = await start_service(
        trusted_proxies=parsers.networks("127.0.0.1"),
        max_rejects=RejectLimit.parse("100%"),
    )
    await trigger(client)
    await trigger(client)
    return client


PAGES = ["/features?limit=2&order=name", "/runs?limit=1", "/runs/1/rejects?limit=1"]


async def test_links_are_urls_of_the_next_page_and_the_first(
    subtests: pytest.Subtests, service: Client
) -> None:
    for path in PAGES:
        with subtests.test(path=path):
            here = str(service.make_url("/")).rstrip("/")
            for headers, base in (({}, here), (PROXY, "https://data.example.com/lab")):
                found = await links(service, path, **headers)
                assert str(found["first"]) == f"{base}{path}"
                following = found["next"]
                assert str(following).startswith(f"{base}{path}&after=")
                inside = f"{path}&after={following.query['after']}"
                assert (await links(service, inside, **headers))["first"] == found[
                    "first"
                ]


async def test_a_page_with_everything_has_no_links(service: Client) -> None:
    for path in ("/features", "/features?limit=10", "/runs", "/runs?limit=2"):
        assert await links(service, path) == {}


@asynccontextmanager
async def raw(
    client: Client, path: str, method: str = "GET", **headers: str
) -> AsyncIterator[tuple[ClientResponse, bytes]]:
    """An answer and its body as it was sent."""
    sent = {"Accept-Encoding": "identity"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        ClientSession(auto_decompress=False) as session,
        session.request(method, client.make_url(path), headers=sent) as response,
    ):
        yield response, await response.read()


KNOWN = [
    *("/runs", "/runs?limit=1", "/runs/1", "/openapi.json", "/charts"),
    *("/static/page.css", "/static/docs/swagger-ui/swagger-ui-bundle.js"),
    *("/?html", "/features?limit=10"),
]

CODINGS = ["gzip", "deflate"]


async def test_what_is_known_is_compressed_with_its_length(
    subtests: pytest.Subtests, service: Client
) -> None:
    for path in KNOWN:
        for coding in CODINGS:
            with subtests.test(path=path, coding=coding):
                accept = {"Accept": "text/html"} if path == "/?html" else {}
                async with raw(service, path, **accept) as (plain, body):
                    assert plain.status == 200
                    assert "Content-Encoding" not in plain.headers
                    assert plain.content_length == len(body)
                accept |= {"Accept_Encoding": coding}
                async with raw(service, path, **accept) as (packed, sent):
                    assert packed.headers["Content-Encoding"] == coding
                    assert packed.content_length == len(sent) < len(body)
                    unpack = gzip.decompress if coding == "gzip" else zlib.decompress
                    assert unpack(sent) == body
                async with raw(service, path, "HEAD", **accept) as (head, nothing):
                    assert nothing == b""
                    for name in {*packed.headers} - {"Date"}:
                        assert head.headers[name] == packed.headers[name]
                for answer in (plain, packed):
                    assert "Accept-Encoding" in answer.headers["Vary"].split(", ")
                if tag := plain.headers.get("ETag"):
                    assert packed.headers["ETag"] != tag
                    for accepted, current in (("identity", plain), (coding, packed)):
                        accept |= {
                            "Accept_Encoding": accepted,
                            "If_None_Match": current.headers["ETag"],
                        }
                        async with raw(service, path, **accept) as (known, nothing):
                            assert (known.status, nothing) == (304, b"")
                            assert known.headers["ETag"] == current.headers["ETag"]
                            assert known.headers["Vary"] == current.headers["Vary"]


async def test_what_is_short_or_goes_on_is_not(service: Client) -> None:
    for path, status in (
        ("/healthz", 200),
        ("/docs", 200),
        ("/features/1", 200),
        ("/features/nobody", 404),
        ("/runs?limit=x", 400),
        ("/nothing", 404),
        ("/runs/1/events", 200),
    ):
        async with raw(service, path, Accept_Encoding="gzip") as (response, body):
            assert response.status == status
            assert "Content-Encoding" not in response.headers
            known = None if path.endswith("events") else len(body)
            assert response.content_length == known


async def test_streams_are_compressed_as_they_are_made(service: Client) -> None:
    for path in ("/features?format=ndjson", "/features?format=csv", "/runs/1/rejects"):
        async with raw(service, path) as (plain, body):
            assert "Content-Length" not in plain.headers
        async with raw(service, path, Accept_Encoding="gzip") as (packed, sent):
            assert packed.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(sent) == body
            assert "Accept-Encoding" in packed.headers["Vary"]
        async with raw(service, path, "HEAD", Accept_Encoding="gzip") as (head, _):
            assert head.headers["Content-Encoding"] == "gzip"


async def test_a_trigger_is_compressed(service: Client) -> None:
    async with raw(service, "/trigger_etl", Accept_Encoding="gzip") as (response, sent):
        assert response.content_length == len(sent)
        assert json.loads(gzip.decompress(sent))["run"]["state"] == "succeeded"


async def test_csv_is_a_file_with_a_name(service: Client) -> None:
    for path, name in (
        ("/features?format=csv", "features.csv"),
        ("/features?format=csv&limit=2", "features.csv"),
        ("/runs/2/rejects?format=csv", "rejects-2.csv"),
        ("/features?format=ndjson", None),
        ("/features", None),
        ("/runs/2/rejects", None),
    ):
        named = name and f'attachment; filename="{name}"'
        async with service.get(path) as response:
            assert response.headers.get("Content-Disposition") == named


async def test_all_answers_say_what_they_are_and_none_who_made_them(
    service: Client,
) -> None:
    """Whatever the route, the method and the status."""
    paths = [
        re.sub("{.*?}", "1", route.resource.canonical)
        for route in app_of(service).router.routes()
        if route.resource is not None
    ]
    for path in (*paths, "/nothing", "/features?x=y", "/runs/1/rejects?format=csv"):
        for method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            async with service.request(method, path) as response:
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers.getall("Server") == ["features-etl"]
                if response.status == 200 and method == "OPTIONS":
                    allowed = response.headers["Allow"].split(", ")
                    assert {*allowed} & {"GET", "POST"}


async def test_many_headers_have_the_bound_of_one_where_they_are_a_list(
    service: Client,
) -> None:
    """What they prefer is cached: 128 of the longest would be a megabyte each time."""
    for each in ("count=exact", "timezone=UTC," * 300):
        headers = [("Prefer", each)] * 3
        async with service.get("/features", headers=headers) as response:
            assert response.status == (431 if len(each) > 100 else 200)
