"""The page at /: its files, and what a browser may do with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from yarl import URL

from etl.api.pages import FILES, FOLDER
from tests.support.client import Client, StartService

pytestmark = pytest.mark.any_postgres

#: The Accept header of browsers for an address that was typed.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

#: The page and its files, but for vendored ones.
OURS = [path for path in FILES.values() if path.parent == FOLDER]


ACCEPTED = [
    (BROWSER, "text/html"),
    ("text/html", "text/html"),
    ("text/*", "text/html"),
    ("application/json", "application/json"),
    ("*/*", "application/json"),
    ("text/html;q=0.5, application/json", "application/json"),
    ("", "application/json"),
    ("image/png", "application/json"),
    ("*", "application/json"),
    ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "text/html"),
    ("image/gif, *; q=.2", "application/json"),
]


async def test_browsers_get_the_page_and_programs_the_index(
    subtests: pytest.Subtests, client: Client
) -> None:
    for accept, kind in ACCEPTED:
        with subtests.test(accept=accept, kind=kind):
            async with client.get("/", headers={"Accept": accept}) as response:
                assert response.status == 200
                assert response.content_type == kind
                assert response.headers["Vary"].split(", ")[0] == "Accept"
                if kind == "application/json":
                    endpoints = await response.json()
                    assert endpoints["feature"] == "/features/{key}"
                    resources = client.app.router.resources()
                    paths = {resource.canonical for resource in resources}
                    assert {*endpoints.values()} == paths - {"/", "/static/{file}"}


async def test_the_page_and_its_modules_name_all_files(client: Client) -> None:
    async with client.get("/", headers={"Accept": BROWSER}) as response:
        text = await response.text()
    version, *others = set(re.findall('(?:href|src)="static/([^/"]*)/', text))
    assert not others
    named = set(re.findall(f'(?:href|src)="static/{version}/([^"]*)"', text))
    for path in OURS:
        named |= set(re.findall('(?m)^import .* from "./(.*)";$', path.read_text()))
        named |= set(re.findall(r'URL\("(.*)", import', path.read_text()))
    assert named | {"index.html"} == {
        name for name in FILES if not name.startswith("docs/")
    }
    for name in named:
        async with client.get(f"/static/{version}/{name}") as response:
            assert response.status == 200
            assert response.headers["Cache-Control"].endswith("immutable")
            assert await response.read() == FILES[name].read_bytes()
            kind = {".css": "text/css", ".svg": "image/svg+xml"}
            suffix = Path(name).suffix
            assert response.content_type == kind.get(suffix, "text/javascript")


@pytest.mark.parametrize("path", ["/", "/static/page.js"])
async def test_a_known_file_is_304(client: Client, path: str) -> None:
    accept = {"Accept": BROWSER}
    async with client.get(path, headers=accept) as response:
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
    headers = {**accept, "If-None-Match": f'"other", {tag}'}
    async with client.get(path, headers=headers) as response:
        assert response.status == 304
        assert response.headers["ETag"] == tag
        assert await response.read() == b""
    async with client.get(path, headers={**accept, "If-None-Match": '"x"'}) as response:
        assert response.status == 200


async def version_of_page(client: Client) -> str:
    async with client.get("/", headers={"Accept": BROWSER}) as response:
        found = re.search('="static/([^/"]*)/', await response.text())
        assert found
        return found[1]


async def test_a_file_is_read_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "page.css"
    path.write_text(first := "a { color: red }" * 100)
    monkeypatch.setitem(FILES, "page.css", path)
    for _ in range(2):
        async with client.get("/static/page.css") as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.text() == first
        path.write_text("a { color: tan }")


async def test_a_changed_file_has_another_url(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = await version_of_page(await start_service())
    path = tmp_path / "page.css"
    path.write_text(text := "a { color: red }")
    monkeypatch.setitem(FILES, "page.css", path)
    client = await start_service()
    assert await version_of_page(client) != old
    # A page that is still open may ask for more of its files.
    async with client.get(f"/static/{old}/page.css") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert await response.text() == text


GUARDED = ["/", "/static/page.js", "/static/page.css"]


async def test_browsers_load_nothing_from_other_hosts(
    subtests: pytest.Subtests, client: Client
) -> None:
    for path in GUARDED:
        with subtests.test(path=path):
            async with client.get(path, headers={"Accept": BROWSER}) as response:
                policy = response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Referrer-Policy"] == "no-referrer"
            rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
            assert rules.pop("img-src") == "'self' data:"
            for name in ("script-src", "style-src", "connect-src"):
                assert rules.pop(name) == "'self'"
            for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
                assert rules.pop(name) == "'none'"
            assert rules == {}


@pytest.mark.parametrize("path", OURS, ids=[path.name for path in OURS])
def test_our_files_name_no_other_host_and_make_no_html(path: Path) -> None:
    code = re.sub("(?m)^ *// .*$| // .*$", "", path.read_text()).replace(
        "http://www.w3.org", ""
    )
    assert "//" not in code
    assert not re.search(r"(?i)<script(?![^>]* src=)|<style|\s(?:style|on\w+)=\"", code)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", code
    )


STRANGE = [
    "nothing",
    "..%2Fservice.py",
    "../service.py",
    "%00",
    "",
    "vendor",
    "//etc/passwd",
    "0123456789abcdef",
    "0123456789abcdef/0123456789abcdef/page.js",
]


async def test_there_are_no_other_files(
    subtests: pytest.Subtests, client: Client
) -> None:
    for name in STRANGE:
        with subtests.test(name=name):
            async with client.get(URL(f"/static/{name}", encoded=True)) as response:
                assert response.status == 404
                assert response.content_type == "application/problem+json"


async def test_the_page_needs_no_token_and_its_data_does(
    start_service: StartService,
) -> None:
    client = await start_service(api_token="run", api_token_read="read")
    for path in ("/", *(f"/static/{name}" for name in FILES)):
        async with client.get(path, headers={"Accept": BROWSER}) as response:
            assert response.status == 200
    for path in ("/charts", "/charts/nothing"):
        async with client.get(path) as response:
            assert response.status == 401
