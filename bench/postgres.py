"""The two settings of a Postgres: the service's embedded one, and a stock server.

Knows how to start and stop them; knows no contender and no table.
"""

from __future__ import annotations

import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from stopping import undisturbed

from etl.postgres import embedded, folders
from etl.postgres.process import run_as

IMAGE = "postgres:18"

#: Seconds that a start may take, and that a server may need to become idle.
START_SECONDS = 60
IDLE_SECONDS = 300

BUSY = """
select count(*)
from pg_stat_activity
where
    pid <> pg_backend_pid()
    and backend_type in ('client backend', 'autovacuum worker', 'parallel worker')
    and state = 'active'
"""


@dataclass(frozen=True)
class Postgres:
    """A running server. ``environ`` is what makes the service use it, ``postmaster``
    its first process on this machine.
    """

    title: str
    conninfo: str
    environ: Mapping[str, str]
    postmaster: int | None

    def psql(self, *commands: str) -> list[str]:
        """The command line of a psql that does these one after another."""
        program = folders.client_binaries() / "psql"
        line = [str(program), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo]
        for command in commands:
            line += ["-c", command]
        return line

    def value(self, query: str) -> object:
        """The first value of a query's first row."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def new_database(self, name: str) -> str:
        """Make another database on this server; returns where it is."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {}").format(sql.Identifier(name))
            )
        return make_conninfo(self.conninfo, dbname=name)

    def with_database(self, name: str) -> Postgres:
        """The same server, with another database, just made, for all that follows."""
        conninfo = self.new_database(name)
        return replace(self, conninfo=conninfo, environ={"DATABASE_URL": conninfo})

    def settle(self) -> None:
        """Wait until nobody works, then write out what was left to write."""
        settle(self.conninfo)


def settle(conninfo: str) -> None:
    """Wait until nobody works on a server, then write out what was left to write.

    So nobody's time holds what another one's run has left behind: a vacuum, or pages
    that a checkpoint has yet to write.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        wait_until_idle(connection)
        connection.execute("checkpoint")


def wait_until_idle(connection: psycopg.Connection) -> None:
    """Wait until no other backend of its server works."""
    deadline = time.monotonic() + IDLE_SECONDS
    while (connection.execute(BUSY).fetchone() or (0,))[0]:
        if time.monotonic() > deadline:
            raise TimeoutError("Postgres does not come to rest")
        time.sleep(0.02)


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[Postgres]:
    """The service's own Postgres, as it is set up by default."""
    state = folder / "state"
    with ExitStack() as servers:
        with undisturbed():
            cluster = embedded.start(state)
            servers.callback(undisturbed()(embedded.stop), cluster)
        environ = {"STATE_DIR": str(state)}
        pid = (cluster.data / "postmaster.pid").read_text().split()[0]
        title = f"embedded PostgreSQL {_version(cluster.conninfo)}"
        yield Postgres(title, cluster.conninfo, environ, int(pid))


def stock_postgres(folder: Path) -> AbstractContextManager[Postgres]:
    """PostgreSQL 18 as it comes: in Docker where there is an engine, else by initdb."""
    docker = shutil.which("docker")
    if docker and _run([docker, "info"], check=False).returncode == 0:
        return _in_docker(docker)
    return postgres_by_initdb(folder)


@contextmanager
def _in_docker(docker: str) -> Iterator[Postgres]:
    password = secrets.token_urlsafe()
    command = [docker, "run", "--detach", "--rm", "--publish", "127.0.0.1::5432"]
    command += ["--env", f"POSTGRES_PASSWORD={password}", IMAGE]
    with ExitStack() as servers:
        with undisturbed():
            container = _run(command).stdout.strip()
            remove = [docker, "rm", "--force", "--volumes", container]
            servers.callback(undisturbed()(_run), remove, check=False)
        port = _run([docker, "port", container, "5432/tcp"]).stdout
        number = int(re.findall(r":(\d+)\n", port)[0])
        conninfo = _conninfo(number, password)
        version = _when_ready(conninfo)
        form = "{{.State.Pid}}"
        pid = int(_run([docker, "inspect", "--format", form, container]).stdout)
        title = f"Docker's {IMAGE}, PostgreSQL {version}, stock configuration"
        environ = {"DATABASE_URL": conninfo}
        yield Postgres(title, conninfo, environ, _postmaster_below(pid))


@contextmanager
def postgres_by_initdb(folder: Path) -> Iterator[Postgres]:
    """PostgreSQL 18 as it comes, by the programs of the embedded one."""
    # The embedded cluster knows where its programs are, and who may run them.
    with undisturbed():
        cluster = embedded.start(folder / "state-of-programs")
        embedded.stop(cluster)
    home = Path(tempfile.mkdtemp(prefix="stock-", dir=folder))
    password = secrets.token_urlsafe()
    (home / "password").write_text(password)
    for path in (home, home / "password"):
        path.chmod(0o700)
        if cluster.owner is not None:
            shutil.chown(path, cluster.owner)
    data = home / "data"
    initdb = ["-D", str(data), "-U", "postgres", "-E", "UTF8", "-A", "scram-sha-256"]
    initdb += ["--pwfile", str(home / "password")]
    run_as([str(cluster.binaries / "initdb"), *initdb], cluster.owner)
    port = _free_port()
    control = [str(cluster.binaries / "pg_ctl"), "-D", str(data), "-w"]
    listen = f"-c listen_addresses=127.0.0.1 -p {port} -k ''"
    start = [*control, "-o", listen, "-l", str(home / "log"), "start"]
    stop = [*control, "-m", "fast", "stop"]
    with ExitStack() as servers:
        with undisturbed():
            run_as(start, cluster.owner)
            servers.callback(undisturbed()(run_as), stop, cluster.owner)
        conninfo = _conninfo(port, password)
        title = f"PostgreSQL {_version(conninfo)} by initdb, stock configuration"
        pid = (data / "postmaster.pid").read_text().split()[0]
        yield Postgres(title, conninfo, {"DATABASE_URL": conninfo}, int(pid))


SETTINGS: Mapping[str, Callable[[Path], AbstractContextManager[Postgres]]] = {
    "embedded": embedded_postgres,
    "stock": stock_postgres,
}


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=check,
        capture_output=True,
        text=True,
        start_new_session=True,  # a Ctrl-C is ours to handle
    )


def _conninfo(port: int, password: str) -> str:
    return make_conninfo(
        "",
        host="127.0.0.1",
        port=port,
        user="postgres",
        password=password,
        dbname="postgres",
    )


def _version(conninfo: str) -> str:
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        return str(connection.info.parameter_status("server_version")).split()[0]


def _when_ready(conninfo: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return _version(conninfo)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _postmaster_below(pid: int) -> int | None:
    """The first Postgres among a container's processes, its first one included."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop(0)
        try:
            if Path(f"/proc/{pid}/comm").read_text() == "postgres\n":
                return pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            continue
        waiting += map(int, children.split())
    return None
