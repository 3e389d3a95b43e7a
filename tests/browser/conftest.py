"""A real browser for the session, and a service in a thread for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from etl.settings import Settings
from tests.support.browser import PATIENCE, Serve, Watched, served
from tests.support.databases import Postgres

#: Where Debian and others put it; Playwright brings none. The first is the same browser
#: without windows around its pages: a page takes a fifth of the CPU time there.
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def browser(postgres: Postgres) -> Iterator[Browser]:
    """One browser for all tests here; they are skipped where the machine has none.

    Playwright's loop counts as running in this thread for as long, so what others run
    by asyncio must stand before it, and after.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser on this machine: apt-get install {NAMES[0]}")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield playwright.chromium.launch(executable_path=path, args=arguments)


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts a service with these changes of its settings; where it is."""
    with ExitStack() as services:

        def start(**changes: Any) -> str:
            return services.enter_context(served(replace(settings, **changes)))

        yield start


@pytest.fixture
def watched(browser: Browser, serve: Serve) -> Iterator[Watched]:
    """Opens pages, which go before their service does; fails where one had an error."""
    pages = Watched(browser)
    yield pages
    for context in browser.contexts:
        context.close()
    assert pages.faults == []


@pytest.fixture
def url(serve: Serve) -> str:
    """Where a service with the shipped data is."""
    return serve()
