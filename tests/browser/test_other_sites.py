"""What a page of another site does in a real browser: it starts and changes nothing."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from etl.settings import Settings
from tests.support.browser import Watched

pytestmark = pytest.mark.any_postgres

#: Everything that a page may try without a preflight, and a request that needs one.
HOSTILE = """
<!doctype html><title>hostile</title>
<img src="{url}trigger_etl">
<iframe name="frame"></iframe>
<form action="{url}trigger_etl" method="post" target="frame"></form>
<script>
document.forms[0].submit();
const send = (path, method) =>
  fetch("{url}" + path, {{ method, mode: "no-cors", body: "x" }}).catch(() => {{}});
const preflighted = (path, method) =>
  fetch("{url}" + path, {{ method, body: "x" }}).catch(() => {{}});
Promise.all([
  send("trigger_etl?wait=false", "POST"),
  send("runs/1/cancel", "POST"),
  preflighted("files/users.csv", "PUT"),
  preflighted("files/users.csv", "DELETE"),
  preflighted("trigger_etl", "GET"),
]).then(() => {{ document.title = "done"; }});
</script>
"""


@contextmanager
def other_site(page: str) -> Iterator[str]:
    """A page of this machine under another name; a browser keeps others from here."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://hostile.localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_page_of_another_site_starts_and_changes_nothing(
    watched: Watched, url: str, settings: Settings, data_dir: Path
) -> None:
    before = (data_dir / "users.csv").read_bytes()
    page = watched.browser.new_page()
    with other_site(HOSTILE.format(url=url)) as hostile:
        page.goto(hostile)
        page.wait_for_function("document.title === 'done'")
        page.wait_for_load_state("networkidle")
    with urllib.request.urlopen(f"{url}metrics") as answer:
        counted = answer.read().decode()
    found = re.findall(
        r'http_requests_total{method="(\w+)",route="([^"]+)",status="(\d+)"', counted
    )
    assert {
        ("GET", "/trigger_etl", "403"),
        ("POST", "/trigger_etl", "403"),
        ("POST", "/runs/{id}/cancel", "403"),
    } <= {*found}
    assert {status for *_, status in found} <= {"403", "200", "405"}
    page.goto(f"{url}trigger_etl")  # as a user types it
    assert '"state": "succeeded"' in page.content()
    with psycopg.connect(settings.database or "") as connection:
        assert connection.execute("select count(*) from etl.runs").fetchone() == (1,)
    assert (data_dir / "users.csv").read_bytes() == before
