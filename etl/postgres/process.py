"""The process of the embedded Postgres: whether it runs, how it starts, what it logs.

Knows programs and process numbers; knows nothing of who shares the server.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

#: Seconds for Postgres to start, crash recovery included, and tries, a second apart.
START_SECONDS, START_TRIES = 300, 10

#: What Postgres says while processes of one that was killed are still ending.
STILL_ENDING = "shared memory block"


class EmbeddedError(RuntimeError):
    """The embedded Postgres cannot be used; the message is one line that says why."""


def run_as(command: list[str], owner: str | None) -> None:
    """Run a program to its end as ``owner``; EmbeddedError has its last line."""
    account = pwd.getpwnam(owner) if owner else None
    result = subprocess.run(  # noqa: S603 (a list that we compose)
        command,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode != 0:
        lines = result.stdout.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {result.returncode}"
        raise EmbeddedError(f"{Path(command[0]).name}: {reason}")


def is_running(data: Path) -> bool:
    """Whether the first process of the server lives, be it recovering or ready."""
    try:
        return _is_postgres(postmaster(data))
    except (OSError, ValueError):
        return False


def postmaster(data: Path) -> int:
    """The number of the server's first process, which may have ended; OSError or
    ValueError where the server was stopped.
    """
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])


def _is_postgres(number: int) -> bool:
    """Whether a process is a Postgres; OSError where there is none."""
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
    try:
        if not _is_postgres(postmaster(data)):
            (data / "postmaster.pid").unlink()
    except (OSError, ValueError):
        return


def last_logged(home: Path, level: str, since: float) -> str | None:
    """The last message of a level, such as FATAL, after a time of ``time.time()``.

    ``home`` is the folder of the cluster; the times of its logs are UTC.
    """
    first = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    lines = [
        line
        for path in [home / "start.log", *(home / "log").glob("*.log")]
        if path.exists()
        for line in path.read_text(errors="replace").splitlines()
        if f"{level}:  " in line and line >= first
    ]
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
    started, it is tried again, a second apart.
    """
    output = home / "start.log"
    command = [str(binaries / "pg_ctl"), "-D", str(home / "data"), "-l", str(output)]
    command += ["-w", "-t", str(seconds), "start"]
    for tries_left in reversed(range(tries)):
        output.unlink(missing_ok=True)
        began = time.time()
        try:
            run_as(command, owner)
            return
        except EmbeddedError:
            printed = output.read_text(errors="replace") if output.exists() else ""
            reason = last_logged(home, "FATAL", began) or " ".join(printed.split())
        if not tries_left or (reason and STILL_ENDING not in reason):
            raise EmbeddedError(
                f"Postgres did not start: {reason or 'it did not say why'} "
                f"(see {output}, {home / 'log'})"
            )
        time.sleep(1)
