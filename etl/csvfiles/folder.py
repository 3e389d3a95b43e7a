"""The folder of the CSV files: what is in it, and how a file gets there whole or not at
all.

Knows files by name, content and header, and nothing of who sends them. Everything here
waits for the disk: call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from etl.csvfiles.headers import HEAD_BYTES, find_header
from etl.csvfiles.textfile import READ_AT_ONCE, TextFile
from etl.errors import DataFault

#: The name of a file that is not whole yet: hidden, and no .csv at its end.
PARTIAL = re.compile(r"\..+\.csv\.[0-9a-f]{16}\.partial")

#: Identifies one state of a file: device, inode, size, and both times in ns. The second
#: changes also where somebody sets the first back.
Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class StoredFile:
    """A file that is there; ``sha256`` is None while others write to it."""

    bytes: int
    sha256: str | None
    modified: datetime


#: Raises an error where a file may not be replaced or removed; None is a missing one.
Condition = Callable[[StoredFile | None], None]


class CsvFolder:
    """The files of one folder. A hash is computed once for each state of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hashes: dict[str, tuple[Identity, str]] = {}
        self._hashing = threading.Lock()
        self._changing = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Stop hashing, also in threads that have begun to."""
        self._is_closed = True

    def find(self, name: str) -> StoredFile | None:
        """The file of this name, or None where there is none that can be read."""
        try:
            with closing(TextFile(self.path / name)) as opened:
                return self.describe(opened)
        except DataFault:
            return None

    def describe(self, opened: TextFile) -> StoredFile:
        """What an open file is; its hash is of what its descriptor reads."""
        about = opened.about
        modified = datetime.fromtimestamp(about.st_mtime_ns / 1e9, UTC)
        try:
            return StoredFile(about.st_size, self._hash(opened), modified)
        except DataFault:
            return StoredFile(about.st_size, None, modified)

    def is_writable(self) -> bool:
        """Whether files may come and go."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def replace(
        self, partial: PartialFile, condition: Condition | None
    ) -> tuple[StoredFile, bool]:
        """Give a finished file its name; whether there was none before.

        ``condition`` is asked right before. Who has the old file open reads that to its
        end. Raises OSError.
        """
        path = self.path / partial.name
        with self._changing:
            if condition:
                condition(self.find(partial.name))
            is_new = not os.path.lexists(path)
            about = partial.rename()
            sha256 = partial.sha256
            self._hashes[partial.name] = (_identity(about), sha256)
        modified = datetime.fromtimestamp(about.st_mtime_ns / 1e9, UTC)
        return StoredFile(about.st_size, sha256, modified), is_new

    def remove(self, name: str, condition: Condition | None) -> None:
        """Remove a file, or the link of this name. Raises OSError."""
        with self._changing:
            if condition:
                condition(self.find(name))
            (self.path / name).unlink()
            _sync(self.path)

    def remove_leftovers(self) -> None:
        """Remove what processes have left that were killed before a file was whole.

        The lock of a process that still writes is not to be had.
        """
        with suppress(OSError):
            for path in self.path.iterdir():
                if PARTIAL.fullmatch(path.name):
                    with suppress(OSError):  # of a folder that cannot be written to
                        _remove_if_unlocked(path)

    def _hash(self, opened: TextFile) -> str:
        """The SHA-256 of an open file. Raises DataFault if it is changed meanwhile."""
        with self._hashing:  # who asks meanwhile needs it too
            identity = _identity(opened.about)
            known, sha256 = self._hashes.get(opened.name, (None, ""))
            if known == identity:
                return sha256
            digest = hashlib.sha256()
            for offset in range(0, opened.size, READ_AT_ONCE):
                if self._is_closed:
                    raise DataFault(f"{opened.name}: not read to its end")
                digest.update(opened.read_at(offset, READ_AT_ONCE))
            sha256 = digest.hexdigest()
            if _identity(opened.about) == identity:
                self._hashes[opened.name] = (identity, sha256)
            return sha256


class PartialFile:
    """A file that is being written under a hidden name beside its own; it is to be
    opened.

    It may be discarded while a thread works on it: that waits, and what comes later
    raises an OSError.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.bytes = 0
        self._folder = folder
        self._path = folder / f".{name}.{secrets.token_hex(8)}.partial"
        self._digest = hashlib.sha256()
        self._header_is_checked = self._is_discarded = False
        self._using = threading.Lock()
        self._file = -1

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hex."""
        return self._digest.hexdigest()

    def open(self, length: int) -> None:
        """Open it, if the disk has room for so many bytes. Raises OSError."""
        with self._using:
            if self._is_discarded:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if (self._folder / self.name).is_dir():
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if shutil.disk_usage(self._folder).free < length:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o666)
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes, known: Sequence[str]) -> None:
        """Append bytes; check the header as soon as enough are there.

        ``known`` are the columns of the table. Raises DataFault, as a run would, and
        OSError.
        """
        with self._using:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            self._digest.update(data)
            self.bytes += len(data)
            if self.bytes >= HEAD_BYTES:
                self._require_header(known)

    def finish(self, known: Sequence[str]) -> None:
        """Check the header, unless that is done, and wait for the disk.

        It gets the permissions of the file that it replaces. Raises DataFault and
        OSError.
        """
        with self._using:
            self._require_header(known)
            with suppress(OSError):
                old = (self._folder / self.name).stat()
                os.fchmod(self._file, old.st_mode & 0o666)  # neither setuid nor sticky
            os.fsync(self._file)

    def rename(self) -> os.stat_result:
        """Give it its name, for good when this returns. Raises OSError."""
        with self._using:
            os.fstat(self._file)  # fails where it was discarded
            self._path.rename(self._folder / self.name)
            _sync(self._folder)
            about = os.fstat(self._file)
            self._close()
            return about

    def discard(self) -> None:
        """Remove it, unless it has its name already."""
        with self._using:
            self._is_discarded = True
            if self._file >= 0:
                self._path.unlink(missing_ok=True)
                self._close()

    def _require_header(self, known: Sequence[str]) -> None:
        if not self._header_is_checked:
            find_header(self.name, os.pread(self._file, HEAD_BYTES, 0), known)
            self._header_is_checked = True

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


def _identity(about: os.stat_result) -> Identity:
    return (
        about.st_dev,
        about.st_ino,
        about.st_size,
        about.st_mtime_ns,
        about.st_ctime_ns,
    )


def _remove_if_unlocked(path: Path) -> None:
    """Remove a file that no process has a lock on. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(file)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
