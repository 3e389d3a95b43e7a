"""A PostgreSQL 16 that listens by TCP and asks for a password, and commands on it.

The wheel carries it beside 18; it is the oldest that is supported. As a program, it
starts one with an ordinary role, and runs a Python module with TEST_DATABASE_URL:
``python -m tests.support.tcpserver pytest tests/cases``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from etl.postgres import folders
from etl.postgres.process import run_as
from tests.support.memory import temporary_folder

#: Its data need not outlive it, and its WAL is to take little of the disk.
CHEAP = ("fsync=off", "full_page_writes=off", "min_wal_size=32MB", "max_wal_size=64MB")

#: With what a URL and a connection string have to escape.
PASSWORD = "p @ss/w'rd"


@dataclass(frozen=True)
class TcpServer:
    """A running server, whose superuser is postgres; all roles have one password."""

    port: int

    def environ(self, dbname: str, user: str) -> dict[str, str]:
        """The settings that name one of its databases."""
        return {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.port),
            "DB_USER": user,
            "DB_PASS": PASSWORD,
            "DB_NAME": dbname,
        }

    def conninfo(self, dbname: str, user: str = "postgres") -> str:
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=PASSWORD,
            dbname=dbname,
        )

    def create_role(self, name: str, rights: str = "") -> None:
        """An ordinary role, with some of the rights that ``create role`` gives."""
        login = f"create role {name} login {rights} password {quoted(PASSWORD)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(login.encode())


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def tcp_server(folder: Path, *options: str) -> Iterator[TcpServer]:
    """A new server in ``folder``, which any user may reach, stopped at the end."""
    home = folder / "tcp-server"
    home.mkdir()
    # Copied with the libraries beside it, to where the server's user may go.
    package = folders.client_binaries().parent.parent
    libraries = f"{package.name}.libs"
    shutil.copytree(package / "pginstall", home / package.name / "pginstall")
    shutil.copytree(package.with_name(libraries), home / libraries)
    owner = folders.server_user(folder)
    if owner is not None:
        shutil.chown(home, owner)
    (home / "password").write_text(PASSWORD)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    binaries = home / package.name / "pginstall" / "bin"
    data = str(home / "data")
    command = [str(binaries / "initdb"), "-D", data, "-U", "postgres", "-E", "UTF8"]
    command += ["--no-locale", "--auth=scram-sha-256", f"--pwfile={home}/password"]
    run_as(command, owner)
    settings = " ".join(f"-c {option}" for option in (*CHEAP, *options))
    started_with = f"-p {port} -h 127.0.0.1 -k '' {settings}"
    control = [str(binaries / "pg_ctl"), "-D", data, "-w", "-l", f"{home}/log"]
    run_as([*control, "-o", started_with, "start"], owner)
    try:
        yield TcpServer(port)
    finally:
        run_as([*control, "-m", "immediate", "stop"], owner)
        shutil.rmtree(home)


def main() -> int:
    """Run a module on a new server, as a role that may create databases and no more."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        temporary_folder("features-etl-tcp-") as folder,
        tcp_server(folder) as server,
    ):
        server.create_role("tester", "createdb")
        url = server.conninfo("postgres", "tester")
        command = [sys.executable, "-m", *sys.argv[1:]]
        environ = {**os.environ, "TEST_DATABASE_URL": url}
        return subprocess.run(command, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
