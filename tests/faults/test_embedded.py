"""The embedded Postgres where its user may not go, and two starters at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from etl.postgres import embedded, folders
from etl.postgres.process import EmbeddedError


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as another user")
def test_root_opens_no_folder_for_it(
    tmp_path: Path, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout closed to the server's user: state and binaries are elsewhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(folders, "SYSTEM_FOLDER", state_folder / "system")
    monkeypatch.setattr(folders, "_open_to_all", lambda path: False)
    for _ in range(2):
        cluster = embedded.start(closed / "state")
        assert cluster.binaries.is_relative_to(state_folder / "system")
        assert (closed / "state" / "postgres").is_symlink()
        with psycopg.connect(cluster.conninfo) as connection:
            connection.execute("create table if not exists kept ()")
        embedded.stop(cluster)
    assert closed.stat().st_mode & 0o777 == 0o700


def test_starters_at_once_share_one_server(state_folder: Path) -> None:
    state_dir = state_folder / "shared"
    with ThreadPoolExecutor() as pool:
        clusters = list(pool.map(embedded.start, [state_dir] * 3))
    assert len({cluster.conninfo for cluster in clusters}) == 1
    for left in (2, 1, 0):
        embedded.stop(clusters[left])
        assert (clusters[0].data / "postmaster.pid").exists() == (left > 0)


def test_a_long_path_moves_the_socket(state_folder: Path) -> None:
    cluster = embedded.start(state_folder / ("long" * 30))
    try:
        with psycopg.connect(cluster.conninfo) as connection:
            connection.execute("select 1")
    finally:
        embedded.stop(cluster)


def test_data_of_another_version_is_named(state_folder: Path) -> None:
    state_dir = state_folder / "older"
    cluster = embedded.start(state_dir)
    embedded.stop(cluster)
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17"):
        embedded.start(state_dir)
