"""/docs: a page that loads nothing from other hosts."""

from __future__ import annotations

import re

import pytest

from etl.api.pages import FOLDER
from tests.support.client import Client, StartService

pytestmark = pytest.mark.any_postgres

OURS = ("docs.html", "docs.css", "docs.js")


async def test_the_page_and_its_files(client: Client) -> None:
    async with client.get("/docs") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        page = await response.text()
    named = re.findall('(?:href|src)="static/([^/"]*/[^"]*)"', page)
    assert len(named) == 4
    for name in named:
        async with client.get(f"/static/{name}") as response:
            assert response.status == 200
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            assert response.content_type == kind
            path = FOLDER / name.partition("/")[2]
            assert await response.read() == path.read_bytes()
            tag = response.headers["ETag"]
        headers = {"If-None-Match": tag}
        async with client.get(f"/static/{name}", headers=headers) as response:
            assert response.status == 304


@pytest.mark.parametrize("path", ["/docs", "/static/docs/docs.js"])
async def test_browsers_load_nothing_from_other_hosts(
    client: Client, path: str
) -> None:
    async with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", OURS)
def test_our_files_name_no_other_host_and_hold_no_inline_script(name: str) -> None:
    text = (FOLDER / "docs" / name).read_text()
    assert "//" not in re.sub("(?m)^ *// .*$| // .*$", "", text)
    assert not re.search(r"(?i)<script(?![^>]* src=)|\son\w+=|<style|\sstyle=", text)


async def test_the_page_needs_no_token(start_service: StartService) -> None:
    client = await start_service(api_token="run", api_token_read="read")
    for path in ("/docs", *(f"/static/docs/{name}" for name in OURS)):
        async with client.get(path) as response:
            assert response.status == 200
