"""An open CSV file: its bytes from start to end, proven to be text, and unchanged."""

from __future__ import annotations

import hashlib
import os
import stat
from codecs import IncrementalDecoder
from pathlib import Path

from etl.errors import DataFault

#: Bytes that are read at once to count lines.
COUNTED_AT_ONCE = 1 << 20


class TextFile:
    """A file on its way through; ``bytes`` and ``sha256`` tell of what was read so far.

    ``size`` is that of the whole file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises DataFault where there is none that can be read."""
        self.name = path.name
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = _open(path)
        self._found = _state(self._file)
        self.size = self._found[0]

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far, in hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file; a thread that still reads it fails, and reads no other."""
        file, self._file = self._file, -1
        os.close(file)

    def read(self, length: int) -> bytes:
        """The next bytes, at most so many; none at the end. Raises DataFault."""
        try:
            data = os.read(self._file, length)
        except OSError as error:
            raise DataFault(f"{self.name}: cannot be read: {error.strerror}") from None
        self.bytes += len(data)
        if self.bytes > self.size or not data:
            self.require_unchanged()
        self._digest.update(data)
        return data

    def read_again(self, offset: int, length: int) -> bytes:
        """Bytes that were read before. Raises DataFault where they may be others."""
        data = os.pread(self._file, length, offset)
        self.require_unchanged()
        return data

    def count_lines(self) -> int:
        """The lines of the file, one without an end included. Raises DataFault."""
        lines = 1
        for offset in range(0, self.size, COUNTED_AT_ONCE):
            lines += self.read_again(offset, COUNTED_AT_ONCE).count(b"\n")
        return lines

    def require_unchanged(self) -> None:
        if _state(self._file) != self._found:
            raise DataFault(
                f"{self.name}: was changed while it was read: write it elsewhere, then "
                "move it here, and trigger again"
            )

    def require_text(
        self, data: bytes, line: int, decoder: IncrementalDecoder | None = None
    ) -> str:
        """What ``data`` says, which begins in ``line``; where more of it follows, by a
        decoder that goes on. Raises DataFault.
        """
        if (nul := data.find(b"\0")) >= 0:
            at = line + data.count(b"\n", 0, nul)
            raise DataFault(f"{self.name}, line {at}: holds a NUL byte: remove it")
        try:
            return decoder.decode(data) if decoder else data.decode()
        except UnicodeDecodeError as error:
            at = line + data.count(b"\n", 0, error.start)
            raise DataFault(
                f"{self.name}, line {at}: is not UTF-8: save the file as UTF-8"
            ) from None


def _open(path: Path) -> int:
    """A file descriptor for a file. Raises DataFault."""
    try:
        # not to wait for a writer, should it be a pipe
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


def _state(file: int) -> tuple[int, int]:
    """What tells that a file was changed: its size, and when that was, in ns."""
    found = os.fstat(file)
    return found.st_size, found.st_mtime_ns
