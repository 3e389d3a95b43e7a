"""Standard streams that are closed or have no room: no file takes their place."""

from __future__ import annotations

import subprocess
import sys

from etl.settings import PROJECT
from tests.support.processes import SERVER, environment

CHECK = """
import os
from etl.standardstreams import open_streams, print_error, print_text
open_streams()
assert os.open(os.devnull, os.O_RDWR) > 2
print_text("to nowhere")
print_error("to nowhere")
"""


def shell(script: str, *arguments: str, **settings: object) -> int:
    command = ["/bin/sh", "-c", script, "sh", *arguments]
    return subprocess.run(
        command, env=environment(**settings), cwd=PROJECT, timeout=60, check=False
    ).returncode


def test_closed_ones_are_opened() -> None:
    assert shell('exec "$@" <&- >&- 2>&-', sys.executable, "-c", CHECK) == 0


def test_what_an_encoding_lacks_is_escaped() -> None:
    script = "from etl.standardstreams import *; open_streams(); print_text('ü\\udcff')"
    for encoding, printed in (("ascii", rb"\xfc\udcff"), ("utf-8", b"\xc3\xbc\\udcff")):
        ended = subprocess.run(
            [sys.executable, "-c", script],
            env=environment(PYTHONIOENCODING=encoding),
            cwd=PROJECT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (ended.stdout.strip(), ended.stderr) == (printed, b"")


def test_ones_without_room_change_no_exit_code() -> None:
    assert shell('exec "$@" >/dev/full 2>&1', *SERVER, PORT="none") == 2
