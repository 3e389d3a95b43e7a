"""The process of the embedded Postgres: whether it lives, how it is started, its logs.

Knows programs and process numbers; knows nothing of who shares the server.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

#: Seconds for Postgres to start, crash recovery included.
START_SECONDS = 300

#: What Postgres says while processes of one that was killed are still ending, and how
#: often it is tried again, a second apart.
STILL_ENDING = "shared memory block"
START_TRIES = 10

#: The reason of one that ended without a word, as one that was killed: tried again too.
UNTOLD = "it did not say why"


class EmbeddedError(RuntimeError):
    """The embedded Postgres cannot be used; the message is one line that says why."""


def run_as(command: list[str], owner: str | None) -> None:
    """Run a program to its end as ``owner``; EmbeddedError tells its last words."""
    account = pwd.getpwnam(owner) if owner else None
    result = subprocess.run(
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
        words = result.stdout.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else f"exit code {result.returncode}"
        raise EmbeddedError(f"{Path(command[0]).name}: {reason}")


def is_running(data: Path) -> bool:
    """Whether the first process of the server lives, be it recovering or ready."""
    try:
        number = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        if not Path("/proc/self").exists():  # not on Linux
            os.kill(number, 0)
            return True
        return _is_postgres(Path("/proc", str(number)))
    except (OSError, ValueError):
        return False


def reload_settings(data: Path) -> None:
    """Have a server that runs read its configuration again."""
    with suppress(OSError, ValueError):  # it has just ended
        number = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(number, signal.SIGHUP)


def last_panic(log: Path, after: float) -> str | None:
    """Why the server ended itself last, if it did so after a time of ``time.time()``.

    ``log`` is the folder of its logs, whose times are UTC.
    """
    since = f"{datetime.fromtimestamp(after, UTC):%Y-%m-%d %H:%M:%S}"
    lines = [
        line
        for path in log.glob("*.log")
        for line in path.read_text(errors="replace").splitlines()
        if "PANIC:  " in line and line >= since
    ]
    return max(lines).partition("PANIC:  ")[2] if lines else None


def bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder; some may come and go meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += (Path(parent) / file).lstat().st_size
    return total


def accepts(sockets: Path) -> bool:
    """Whether a server listens on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(sockets / ".s.PGSQL.5432")) == 0


def forget_dead_server(data: Path, sockets: Path) -> None:
    """Remove the notes of a server that died, where its number is another process now.

    It happens in containers, which give out the same few numbers at every start;
    Postgres would take the other process for itself and refuse to start. Nothing
    listens on the socket, so its note is of no use; that of the data goes only where
    its process lives and is no Postgres, for else it guards shared memory.
    """
    (sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    note = data / "postmaster.pid"
    try:
        number = note.read_text().split("\n", 1)[0]
        is_another = not _is_postgres(Path("/proc", number))
    except OSError:
        return
    if is_another:
        note.unlink()


def _is_postgres(process: Path) -> bool:
    """Whether a process of ``/proc`` is a Postgres; OSError where there is none."""
    command = (process / "cmdline").read_bytes()
    return b"postgres" in command.split(b"\0")[0]  # it is empty for a zombie


def _sizes(folder: Path) -> dict[Path, int]:
    """The bytes of each of the server's logs."""
    return {log: log.stat().st_size for log in folder.glob("*.log")}


def _fatal_lines(folder: Path, before: Mapping[Path, int]) -> list[str]:
    """What the server has logged of its end since its logs had these sizes."""
    text = b"".join(
        log.read_bytes()[before.get(log, 0) if size >= before.get(log, 0) else 0 :]
        for log, size in _sizes(folder).items()
    )
    return [
        line for line in text.decode(errors="replace").splitlines() if "FATAL" in line
    ]


def _last_lines(output: Path) -> str:
    """What the server printed where it ended before it could log; one line."""
    lines = output.read_text(errors="replace").split("\n") if output.exists() else []
    fatal = [line for line in lines if "FATAL" in line]
    return " ".join(" ".join(fatal[-1:] or lines[-4:]).split()) or UNTOLD


def start_server(
    binaries: Path,
    home: Path,
    owner: str | None,
    *,
    seconds: int = START_SECONDS,
    tries: int = START_TRIES,
) -> None:
    output = home / "start.log"
    command = [str(binaries / "pg_ctl"), "-D", str(home / "data"), "-l", str(output)]
    command += ["-w", "-t", str(seconds), "start"]
    for tries_left in reversed(range(tries)):
        output.unlink(missing_ok=True)
        before = _sizes(home / "log")
        try:
            run_as(command, owner)
        except EmbeddedError:
            fatal = _fatal_lines(home / "log", before)
            reason = fatal[-1] if fatal else _last_lines(output)
            if tries_left and (STILL_ENDING in " ".join(fatal) or reason == UNTOLD):
                time.sleep(1)
                continue
            words = f"Postgres did not start: {reason} (see {output}, {home / 'log'})"
            raise EmbeddedError(words) from None
        return
