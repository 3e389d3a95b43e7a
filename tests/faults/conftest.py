"""A state folder, and a Postgres, of a test's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import OwnPostgres


@pytest.fixture
def state(state_folder: Path) -> Path:
    """A state folder of the test's own."""
    return state_folder / f"state-{time.monotonic_ns()}"


@pytest.fixture
def own_postgres(state_folder: Path) -> Iterator[OwnPostgres]:
    server = OwnPostgres(state_folder / f"own-{time.monotonic_ns()}")
    yield server
    server.stop()
