"""An open CSV file: its bytes from start to end, checked to be text, and unchanged."""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cached_property
from pathlib import Path

from etl.errors import DataFault

#: Bytes that are read at once to count lines, or for a hash.
READ_AT_ONCE = 1 << 20

#: Characters of a name that a message contains.
MAX_NAME_LENGTH = 40

UNPACK = "unpack it, and put the CSV file in its place"
EXPORT = "save the data as CSV in UTF-8"

#: First bytes of formats that people save under the name of a CSV file, what each is,
#: and what to do.
SIGNATURES = (
    (b"\x1f\x8b", "is compressed (gzip)", UNPACK),
    (b"PK\x03\x04", "is a ZIP archive or an Excel workbook", f"{UNPACK}, or {EXPORT}"),
    (b"PK\x05\x06", "is a ZIP archive without files", EXPORT),
    (b"BZh", "is compressed (bzip2)", UNPACK),
    (b"\xfd7zXZ\0", "is compressed (xz)", UNPACK),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd)", UNPACK),
    (b"\x04\x22\x4d\x18", "is compressed (lz4)", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook", EXPORT),
    (b"PAR1", "is a Parquet file", EXPORT),
    (b"SQLite format 3\0", "is an SQLite database", EXPORT),
    (b"%PDF-", "is a PDF document", EXPORT),
    (b"\xff\xfe", "is UTF-16 or UTF-32", EXPORT),
    (b"\xfe\xff", "is UTF-16 or UTF-32", EXPORT),
)


class TextFile:
    """A file that is read once; ``bytes`` and ``sha256`` are of what was read so far,
    the latter of the whole file once ``hash_all`` has read it.

    ``size`` is that of the whole file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises DataFault where there is none that can be read."""
        self.name = path.name
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._is_hashed = False
        self._file = _open(path)
        self._opened = _version(self._file)
        self.size = self._opened[0]

    @property
    def about(self) -> os.stat_result:
        """What the system says of the open file, whatever has its name now."""
        return os.fstat(self._file)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far, or of the whole file, in hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file; a thread that still reads it fails, and reads no other."""
        file, self._file = self._file, -1
        os.close(file)

    def read(self, length: int) -> bytes:
        """The next bytes, at most so many; none at the end. Raises DataFault."""
        data = self.read_at(self.bytes, length)
        self.bytes += len(data)
        if not self._is_hashed:
            self._digest.update(data)
        return data

    def hash_all(self, prefix: int) -> str:
        """Read the whole file for its SHA-256; returns that of its first ``prefix``
        bytes. Raises DataFault.
        """
        digest, of_prefix = hashlib.sha256(), ""
        for start, end in ((0, prefix), (prefix, self.size)):
            for offset in range(start, end, READ_AT_ONCE):
                digest.update(self.read_at(offset, min(READ_AT_ONCE, end - offset)))
            of_prefix = of_prefix or digest.hexdigest()
        self._digest, self._is_hashed = digest, True
        return of_prefix

    def skip_to(self, offset: int) -> None:
        """Take the bytes before ``offset`` as read, in a file that was hashed."""
        self.bytes = offset

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset`` on, at most so many; they do not count as read.

        Raises DataFault where the file cannot be read, or was changed.
        """
        try:
            data = os.pread(self._file, length, offset)
        except OSError as error:
            raise DataFault(f"{self.name}: cannot be read: {error.strerror}") from None
        if _version(self._file) != self._opened:
            raise DataFault(
                f"{self.name}: was changed while it was read: write it elsewhere, then "
                "move it here, and trigger again"
            )
        return data

    @cached_property
    def lines(self) -> int:
        """The lines of the file at most: a last one without an end counts too. Reads
        the whole file to count them. Raises DataFault.
        """
        lines = 1
        for offset in range(0, self.size, READ_AT_ONCE):
            lines += self.read_at(offset, READ_AT_ONCE).count(b"\n")
        return lines


def decode(name: str, data: bytes, line: int) -> str:
    """The text of bytes that begin in ``line`` of a file. Raises DataFault."""
    problem, remedy = "holds a NUL byte", "remove it"
    position = data.find(b"\0")
    if position < 0:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            problem, remedy = "is not UTF-8", "save the file as UTF-8"
            position = error.start
    line += data.count(b"\n", 0, position)
    raise DataFault(f"{name}, line {line}: {problem}: {remedy}")


def printable(text: str) -> str:
    """A name for a message: truncated, invisible characters as code points."""
    cut = text[:MAX_NAME_LENGTH] + ("…" if len(text) > MAX_NAME_LENGTH else "")
    return "".join(
        char if char.isprintable() else f"<U+{ord(char):04X}>" for char in cut
    )


def describe_binary(data: bytes) -> str | None:
    """What a file is that begins with ``data``, and what to do; None for text."""
    for signature, what, remedy in SIGNATURES:
        if data.startswith(signature):
            return f"{what}: {remedy}"
    # A header begins with ASCII: without a byte-order mark, zeros are around it.
    return f"is UTF-16 or UTF-32: {EXPORT}" if b"\0" in data[:2] else None


def _open(path: Path) -> int:
    """A file descriptor for a file. Raises DataFault."""
    try:
        # O_NONBLOCK: not to wait for a writer, should it be a pipe
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataFault(
            f"{path.name}: missing in {path.parent}: put it there"
        ) from None
    except OSError as error:
        raise DataFault(
            f"{path.name}: cannot be read: {error.strerror}: let the service read it"
        ) from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
    raise DataFault(f"{path.name}: is {what}: put the CSV file in its place")


def _version(file: int) -> tuple[int, int]:
    """What shows that a file was changed: its size, and when that was, in ns."""
    found = os.fstat(file)
    return found.st_size, found.st_mtime_ns
