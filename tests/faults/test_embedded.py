"""The embedded Postgres: where its user may not go, what it may not see or overwrite,
two starters at once, and one that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from etl.postgres import embedded, folders
from etl.postgres.process import EmbeddedError, last_logged
from tests.support.processes import SECONDS, SERVER, environment, run_server, until

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root starts it as another user"
)


@as_root
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
        home = folders.home_folder(closed / "state")  # as runs know it
        folders.release_reserve(home)
        folders.keep_reserve(home)
        assert (cluster.home / "reserve").exists()
        assert last_logged(home, "LOG", 0) is not None
        embedded.stop(cluster)
    assert closed.stat().st_mode & 0o777 == 0o700


def test_starters_at_once_share_one_server(state_folder: Path) -> None:
    state_dir = state_folder / "shared"
    with ThreadPoolExecutor() as pool:
        clusters = list(pool.map(embedded.start, [state_dir] * 3))
    assert len({cluster.conninfo for cluster in clusters}) == 1
    for lock in state_dir.glob("*.lock"):  # which no other user may have instead
        assert lock.stat().st_mode & 0o777 == 0o600
    for left in (2, 1, 0):
        embedded.stop(clusters[left])
        assert (clusters[0].data / "postmaster.pid").exists() == (left > 0)


@as_root
def test_root_follows_no_link_of_the_servers_user(state: Path, tmp_path: Path) -> None:
    """Links in its folder lead to files that are closed to it; all remain as they were,
    and root reads none of them.
    """
    tmp_path.chmod(0o700)
    mine = tmp_path / "mine"
    mine.write_text("9999-01-01 00:00:00.000 UTC [1] FATAL:  secret")
    (tmp_path / "PG_VERSION").write_text("18")
    cluster = embedded.start(state)
    (cluster.home / "reserve").unlink()
    (cluster.home / "reserve").symlink_to(tmp_path / "new")
    embedded.stop(cluster)
    with cluster.data.joinpath("features-etl.conf").open("a") as configuration:
        configuration.write("# so that it is written again\n")
    for name in ("data/features-etl.unfinished", "start.log", "log/links.log"):
        (cluster.home / name).unlink(missing_ok=True)
        (cluster.home / name).symlink_to(mine)
    embedded.stop(embedded.start(state))
    assert (cluster.data / "features-etl.conf").stat().st_uid != 0
    assert last_logged(cluster.home, "FATAL", 0) is None
    cluster.data.rename(cluster.data.with_name("moved"))
    cluster.data.symlink_to(tmp_path)
    with pytest.raises(EmbeddedError, match="STATE_DIR: .*: Permission denied"):
        embedded.start(state)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["PG_VERSION", "mine"]
    assert mine.read_text().endswith("secret")


def test_any_path_will_do(state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell acts on it, libpq takes it for one folder, and nothing of it is left,
    also after a start that failed. Postgres sees none of our secrets.
    """
    for name in ("API_TOKEN", "DATABASE_URL", "DB_PASS", "PGPASSWORD", "ANY_OTHER"):
        monkeypatch.setenv(name, "hush")
    state_dir = state_folder / "any-path"
    cluster = embedded.start(state_dir)
    embedded.stop(cluster)
    for name in (
        'it\'s "quoted" `touch made` $(touch made), $HOME\\',
        os.fsdecode(b"no UTF-8 \xff"),
        "long" * 30,
    ):
        state_dir = state_dir.rename(state_folder / name)
        cluster = embedded.start(state_dir)
        try:
            assert cluster.sockets.is_dir()
            with psycopg.connect(cluster.conninfo) as connection:
                assert "hush" not in environment_of_a_backend(connection)
        finally:
            embedded.stop(cluster)
        assert not cluster.sockets.exists()
        assert (cluster.home / "log").is_dir()
    for folder in (cluster.data, cluster.home, cluster.binaries, Path("/"), Path()):
        assert not (folder / "made").exists()
    (cluster.data / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedError, match="Postgres did not start: .*pg_control"):
        embedded.start(state_dir)
    assert not cluster.sockets.exists()
    with pytest.raises(EmbeddedError, match="STATE_DIR: a line break in"):
        embedded.start(state_folder / "line\nbreak")
    # initdb has a shell read the path of the programs.
    monkeypatch.setattr(folders, "client_binaries", lambda: Path("/$(touch made)/bin"))
    monkeypatch.setattr(folders, "_open_to_all", lambda path: True)
    with pytest.raises(EmbeddedError, match="initdb cannot be run there"):
        embedded.start(state_folder / "no-programs")


def environment_of_a_backend(connection: psycopg.Connection) -> str:
    connection.execute("create temporary table variables (variable text)")
    connection.execute("copy variables from program 'env' (encoding 'latin1')")
    rows = connection.execute("table variables").fetchall()
    assert any(variable.startswith("PGDATA=") for (variable,) in rows)
    return "\n".join(variable for (variable,) in rows)


def test_a_start_waits_for_what_a_killed_one_has_left(state: Path) -> None:
    """The first start is killed while its initdb works."""
    first = subprocess.Popen([*SERVER], env=environment(PORT=0, STATE_DIR=state))
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    found: list[int] = []

    def initdb_works() -> bool:
        for number in map(int, children.read_text().split()):
            with suppress(OSError):
                if b"/initdb\0" in Path(f"/proc/{number}/cmdline").read_bytes():
                    found.append(number)
        return bool(found)

    until(initdb_works)
    os.kill(found[0], signal.SIGSTOP)
    try:
        first.kill()
        first.wait(SECONDS)
        with (state / "start.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(found[0], signal.SIGCONT)
    ended = run_server("--once", STATE_DIR=state)
    assert (ended.returncode, ended.stderr) == (0, "")
    left = {path.name for path in (state / "postgres").iterdir()}
    assert left == {"data", "log", "reserve", "start.log"}


def test_a_stop_names_a_folder_that_is_gone(state: Path) -> None:
    cluster = embedded.start(state)
    note = cluster.data / "postmaster.pid"
    os.kill(int(note.read_text().split()[0]), signal.SIGQUIT)
    until(lambda: not note.exists())
    shutil.rmtree(state)
    message = f"STATE_DIR: {cluster.home}: No such file"
    with cluster.share, pytest.raises(EmbeddedError, match=message):
        embedded.stop(cluster)


def test_a_start_names_a_link_to_itself(state: Path) -> None:
    state.mkdir()
    (state / "postgres").symlink_to("postgres")
    with pytest.raises(EmbeddedError, match=f"^STATE_DIR: .*{state.name}/"):
        embedded.start(state)


def test_there_is_no_reason_in_a_log_that_is_gone(tmp_path: Path) -> None:
    """A run that asks why its connection was lost must end all the same."""
    assert last_logged(tmp_path / "gone", "PANIC", 0) is None


@pytest.mark.parametrize("other", ["start.log", "log/other.log"])
def test_a_log_that_cannot_be_read_hides_no_other(tmp_path: Path, other: str) -> None:
    """The others may say that the disk is full, which is why logs are removed."""
    (tmp_path / "log").mkdir()
    (tmp_path / "start.log").touch()
    line = "9999-01-01 00:00:00.000 UTC [1] PANIC:  No space left on device"
    (tmp_path / "log" / "today.log").write_text(line)
    (tmp_path / other).unlink(missing_ok=True)
    (tmp_path / other).symlink_to("gone")
    assert last_logged(tmp_path, "PANIC", 0) == "No space left on device"


def test_a_start_does_not_wait_forever(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0)
    state.mkdir()
    with (state / "start.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedError, match="another process has been starting or"):
            embedded.start(state)


@as_root
def test_an_owner_without_a_name_is_refused(state: Path) -> None:
    """As in a volume that another container has written."""
    home = state / "postgres"
    home.mkdir(parents=True)
    os.chown(home, 54321, 54321)
    with pytest.raises(EmbeddedError, match=f"{home} belongs to user 54321"):
        embedded.start(state)


def test_data_of_another_version_is_named(state_folder: Path) -> None:
    state_dir = state_folder / "older"
    cluster = embedded.start(state_dir)
    embedded.stop(cluster)
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17"):
        embedded.start(state_dir)
