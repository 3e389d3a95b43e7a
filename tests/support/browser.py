"""Pages in a real browser, a service in a thread for them, and what tests do there."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, ConsoleMessage, Page

from etl.http.connections import MAX_CONNECTIONS, accepting_clients
from etl.service import create_runner
from etl.settings import Settings

#: Milliseconds that a test waits for what it expects.
PATIENCE = 15_000

#: WCAG A and AA, and what axe calls good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

#: Without the result types axe describes each element that it found nothing wrong with,
#: which takes as long again.
AXE_OPTIONS = {"runOnly": RULES, "resultTypes": ["violations"]}

Serve = Callable[..., str]

Scheme = Literal["light", "dark"]

SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass
class Watched:
    """Pages whose errors and warnings fail the test.

    A browser logs an answer that is an error: ``expected`` names the statuses.
    """

    browser: Browser
    expected: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def open(self, url: str, **options: Any) -> Page:
        """A page of its own context, which is there until the browser closes."""
        usual = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        options = {**usual, **options}
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(url)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        statuses = [f"responded with a status of {each} " for each in self.expected]
        words = message.text
        if message.type in ("error", "warning") and not any(
            status in words for status in statuses
        ):
            self.faults.append(words)


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """A service in a thread with a loop of its own, as Playwright waits in this one."""
    started: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def work() -> None:
        async with AsyncExitStack() as stack:
            runner = create_runner(settings)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = socket.create_server(("127.0.0.1", 0))
            accepting = accepting_clients(runner.server, listener, MAX_CONNECTIONS)
            await stack.enter_async_context(accepting)
            started.append(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(work())
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait()
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def held_up(database: str) -> Iterator[None]:
    """Inside the with block, a run that begins waits for a lock on its first table."""
    with psycopg.connect(database) as connection:
        connection.execute("lock table staging.users")
        yield


def run_to_end(page: Page) -> None:
    """Start a run on the page, and wait until it succeeds and the table has rows."""
    page.get_by_role("button", name="Start a run").first.click()
    page.locator("#run .state.succeeded").wait_for()
    page.locator("#rows tbody tr").first.wait_for()


def come_back(page: Page) -> None:
    """Fire the event of a tab that becomes visible: the page then polls at once."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def violations(page: Page, *schemes: Scheme) -> list[str]:
    """What axe finds: the rule, and the elements that break it.

    In each of these colour schemes, the last of which stays; else in the present one.
    """
    found = []
    for scheme in schemes or (None,):
        if scheme:
            page.emulate_media(color_scheme=scheme)
        if not page.evaluate("'axe' in window"):
            page.evaluate(AXE_SCRIPT)
        result = page.evaluate("options => axe.run(options)", AXE_OPTIONS)
        found += [
            f"{rule['id']}: {rule['help']}:"
            f" {[node['target'] for node in rule['nodes']]}"
            for rule in result["violations"]
        ]
    return found


def write(folder: Path, name: str, *lines: str) -> None:
    """Put a file into the data folder."""
    (folder / name).write_text("\n".join([*lines, ""]))
