"""The Citus whose coordinator TEST_CITUS_URL names; else these tests are skipped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.support.citus import Citus
from tests.support.named import open_named


@pytest.fixture(scope="session")
def citus() -> Iterator[Citus]:
    """The Citus that is at hand."""
    url = os.environ.get("TEST_CITUS_URL")
    if not url:
        pytest.skip("TEST_CITUS_URL names no Citus")
    named = open_named(url)
    assert isinstance(named, Citus), "TEST_CITUS_URL: no extension citus there"
    asyncio.run(named.make_templates())
    yield named
    named.drop_templates()
