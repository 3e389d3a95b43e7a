"""Headers of answers, whatever the route: links, lengths, codings, what may be done."""

from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from etl import parsers
from etl.settings import RejectLimit
from tests.support.client import Client, StartService, trigger

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


@pytest.mark.parametrize(
    "path", ["/features?limit=2&order=name", "/runs?limit=1", "/runs/1/rejects?limit=1"]
)
async def test_links_are_urls_of_the_next_page_and_the_first(
    service: Client, path: str
) -> None:
    here = str(service.make_url("/")).rstrip("/")
    for headers, base in (({}, here), (PROXY, "https://data.example.com/lab")):
        found = await links(service, path, **headers)
        assert str(found["first"]) == f"{base}{path}"
        following = found["next"]
        assert str(following).startswith(f"{base}{path}&after=")
        inside = f"{path}&after={following.query['after']}"
        assert (await links(service, inside, **headers))["first"] == found["first"]


async def test_a_page_with_everything_has_no_links(service: Client) -> None:
    for path in ("/features", "/features?limit=10", "/runs", "/runs?limit=2"):
        assert await links(service, path) == {}
