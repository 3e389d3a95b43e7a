"""Standard input, output and error: any of them may be closed, or have no room."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO


def open_streams() -> None:
    """Open those that are closed, on nothing, before anything else is opened.

    A file or a connection would get the number of a closed one, and what is printed.
    What the encoding of standard output lacks is printed as an escape.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)  # as standard streams are
    os.close(null)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):  # as standard error has it
        sys.stdout.reconfigure(errors="backslashreplace")


def print_text(text: str = "", stream: TextIO | None = None) -> None:
    """Print lines, to standard output by default; to nowhere once the terminal has
    closed, the disk is full, or the reader of a pipe has left, as `head` does.
    """
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(text: str) -> None:
    """Print lines to standard error, as print_text() does."""
    print_text(text, sys.stderr)
