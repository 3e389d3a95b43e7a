"""The process of the embedded Postgres: whether it runs, how it starts, what it logs.

Knows programs, process numbers and rights; knows nothing of who shares the server.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

#: Seconds for Postgres to start, crash recovery included, and tries, a second apart.
START_SECONDS, START_TRIES = 300, 10

#: What Postgres says while processes of one that was killed are still ending.
STILL_ENDING = "shared memory block"

#: What its programs get of our environment. The rest has tokens and passwords in it,
#: and variables that change what they do.
VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH")

#: How the line of a program begins that says why it failed; others follow it.
REASONS = (" error: ", "FATAL:  ", "PANIC:  ")


class EmbeddedError(RuntimeError):
    """The embedded Postgres cannot be used; the message is one line that says why."""


def run_as(
    command: list[str], owner: str | None, data: Path | None = None, **options: Any
) -> None:
    """Run a program to its end as ``owner``; EmbeddedError has the line that says why
    it failed.

    ``data`` becomes PGDATA. The program gets what is inheritable: the lock of a
    start or stop is held until it ends, even where this process is killed.
    """
    account = pwd.getpwnam(owner) if owner else None
    environ = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    result = subprocess.run(  # noqa: S603 (a list that we compose)
        command,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        env={**environ, **({"PGDATA": str(data)} if data else {})},
        start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
        stdin=DEVNULL,
        check=False,
        **{"cwd": "/", "stdout": PIPE, "stderr": STDOUT, "close_fds": False, **options},
    )
    if result.returncode != 0:
        lines = (result.stdout or b"").decode(errors="replace").strip().splitlines()
        reasons = [line for line in lines if any(each in line for each in REASONS)]
        reason = [*reasons, *lines[-1:], f"exit code {result.returncode}"][0]
        raise EmbeddedError(f"{Path(command[0]).name}: {reason}")


@contextmanager
def files_of_owner(folder: Path) -> Iterator[None]:
    """In here, this thread reaches files with the rights of the folder's owner alone.

    Root would follow any link that the owner puts in the folder, to any file.
    """
    about = folder.stat()
    if os.geteuid() != 0 or about.st_uid == 0:
        yield
        return
    os.setgroups([])  # root needs none, and their rights would remain
    libc = ctypes.CDLL(None)  # Linux alone has these calls, and root's server
    group, user = libc.setfsgid(about.st_gid), libc.setfsuid(about.st_uid)
    try:
        yield
    finally:
        libc.setfsuid(user)
        libc.setfsgid(group)


def is_running(data: Path) -> bool:
    """Whether the first process of the server lives, be it recovering or ready."""
    try:
        return _is_postgres(data)
    except (OSError, ValueError):
        return False


def _is_postgres(data: Path) -> bool:
    """Whether the process that ``postmaster.pid`` names is a Postgres.

    Raises OSError where there is none, and OSError or ValueError where the server was
    stopped.
    """
    number = int((data / "postmaster.pid").read_bytes().split(b"\n", 1)[0])
    if not Path("/proc/self").exists():  # not on Linux
        os.kill(number, 0)
        return True
    command = Path(f"/proc/{number}/cmdline").read_bytes()
    return b"postgres" in command.split(b"\0")[0]  # it is empty for a zombie


def forget_dead_server(data: Path, sockets: Path) -> None:
    """Remove the lock files of a server that died, if its number was given out again.

    That happens in containers, which give out the same few numbers at every start;
    Postgres would take the other process for itself and refuse to start. Where no
    process has the number, ``postmaster.pid`` stays, since it guards shared memory.
    """
    (sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    with suppress(OSError, ValueError):
        if not _is_postgres(data):
            (data / "postmaster.pid").unlink()


def last_logged(home: Path, level: str, since: float) -> str | None:
    """The last message of a level, such as FATAL, after a time of ``time.time()``.

    ``home`` is the folder of the cluster; the times of its logs are UTC. A log that
    cannot be read is passed over, and there is none where the folder is gone.
    """
    first = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    logged: list[str] = []
    with suppress(OSError), files_of_owner(home):
        for path in [home / "start.log", *(home / "log").glob("*.log")]:
            with suppress(OSError):
                logged += path.read_text(errors="replace").splitlines()
    lines = [line for line in logged if f"{level}:  " in line and line >= first]
    return max(lines).partition(f"{level}:  ")[2] if lines else None


def start_server(
    binaries: Path,
    home: Path,
    owner: str | None,
    *,
    seconds: int = START_SECONDS,
    tries: int = START_TRIES,
) -> None:
    """Start it and wait until it takes connections, ``seconds`` at most.

    Where processes of the server before are still ending, or it was killed while it
    started, it is tried again, a second apart. Where it is running by then, because a
    start that was killed has started it, that is enough: connections wait for it.
    """
    output, data = home / "start.log", home / "data"
    # pg_ctl gives these arguments to a shell: no path is among them, nor --pgdata.
    command = [str(binaries / "pg_ctl"), "-p", "./postgres", "--silent"]
    command += ["-w", "-t", str(seconds), "start"]
    for tries_left in reversed(range(tries)):
        output.unlink(missing_ok=True)
        began = time.time()
        try:
            with output.open("xb") as log:  # the server gets it, and no lock
                options = {"stdout": log, "stderr": DEVNULL, "close_fds": True}
                run_as(command, owner, data, cwd=binaries, **options)
            return
        except EmbeddedError:
            if is_running(data):
                return
            printed = output.read_text(errors="replace")
            reason = last_logged(home, "FATAL", began) or " ".join(printed.split())
        if not tries_left or (reason and STILL_ENDING not in reason):
            raise EmbeddedError(
                f"Postgres did not start: {reason or 'it did not say why'} "
                f"(see {output}, {home / 'log'})"
            )
        time.sleep(1)
