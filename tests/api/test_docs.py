"""/docs: a page that asks nobody else for anything."""

from __future__ import annotations

import re

import pytest

from etl.api.docs import FILES, FOLDER
from tests.support.client import Client, StartService

OURS = ("docs.html", "docs.css", "docs.js")


async def test_the_page_and_its_files(client: Client) -> None:
    async with client.get("/docs") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        page = await response.text()
    named = re.findall('(?:href|src)="docs/([^"]*)"', page)
    assert sorted(named) == sorted(FILES)
    for name in named:
        async with client.get(f"/docs/{name}") as response:
            assert response.status == 200
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            assert response.content_type == kind
            assert await response.read() == FILES[name].read_bytes()
            tag = response.headers["ETag"]
        headers = {"If-None-Match": tag}
        async with client.get(f"/docs/{name}", headers=headers) as response:
            assert response.status == 304


@pytest.mark.parametrize("path", ["/docs", "/docs/docs.js"])
async def test_browsers_are_told_to_ask_nobody_else(client: Client, path: str) -> None:
    async with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", OURS)
def test_our_files_name_no_other_host_and_hold_no_inline_script(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert "//" not in re.sub("(?m)^ *// .*$| // .*$", "", text)
    assert not re.search(r"(?i)<script(?![^>]* src=)|\son\w+=|<style|\sstyle=", text)


@pytest.mark.parametrize(
    "name",
    ["docs.html", "README.md", "LICENSE", "..%2Fdocs.html", "%00", "a%2Fb"],
)
async def test_there_are_no_other_files(client: Client, name: str) -> None:
    async with client.get(f"/docs/{name}") as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"


async def test_the_page_needs_no_token(start_service: StartService) -> None:
    client = await start_service(api_token="run", api_token_read="read")
    for path in ("/docs", *(f"/docs/{name}" for name in FILES)):
        async with client.get(path) as response:
            assert response.status == 200
