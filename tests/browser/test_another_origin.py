"""A page of another origin reads the table with @supabase/postgrest-js.

The browser hides from it what CORS does not allow: requests with the client's headers,
and headers of answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.browser import Serve, Watched
from tests.support.node import install
from tests.support.processes import get

pytestmark = pytest.mark.any_postgres

MODULE = "/node_modules/@supabase/postgrest-js/dist/index.mjs"

READ = """
async ([module, url]) => {
  const { PostgrestClient } = await import(module);
  const db = new PostgrestClient(url, { schema: "public", retry: false });
  const page = await db
    .from("features")
    .select("user_id", { count: "exact" })
    .order("user_id")
    .range(1, 2)
    .setHeader("Range-Unit", "items");
  const one = await db.from("features").select("name").eq("user_id", 1).single();
  const head = await db.from("features").select("*", { head: true, count: "exact" });
  const wrong = await db.from("features").select("nope");
  return [page.data, page.count, one.data, head.count, wrong.error?.code];
}
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """The origin of a server of files."""
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def origin(pytestconfig: pytest.Config) -> Iterator[str]:
    """Another origin, which has the packages."""
    assert pytestconfig.cache is not None
    with files_served(install(pytestconfig.cache.mkdir("clients"))) as address:
        yield address


def test_a_page_of_another_origin(watched: Watched, serve: Serve, origin: str) -> None:
    address = serve(cors_origins=frozenset({origin})).rstrip("/")
    assert get(f"{address}/trigger_etl")["run"]["state"] == "succeeded"
    # 404 is the icon of the page, which is one of the package's files.
    watched.expected = {400, 404}
    page = watched.open(f"{origin}/package.json")
    assert page.evaluate(READ, [MODULE, address]) == [
        [{"user_id": 2}, {"user_id": 3}],
        10,
        {"name": "Alice"},
        10,
        "42703",
    ]
