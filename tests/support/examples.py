"""The examples in the docs for clients and operators, and programs that run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from etl.settings import PROJECT
from tests.support.processes import SECONDS

ADDRESS = "http://127.0.0.1:5000"

DOCS = "\n".join(
    (PROJECT / "docs" / name).read_text() for name in ("reference.md", "operations.md")
)


def example(language: str, word: str) -> str:
    """The one example of the docs in this language that has this word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.M | re.S)
    (found,) = [block for block in blocks if word in block]
    return str(found)


def environment(**values: str) -> dict[str, str]:
    """This process's, without a proxy that could stand between."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy")
    }
    return {**kept, **values}


def run(text: str, *command: str, cwd: Path, **values: str) -> str:
    """Give a text to a program; what it printed."""
    ended = subprocess.run(
        [*command, "-c", text],
        env=environment(**values),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def bash(text: str, cwd: Path, **values: str) -> str:
    return run(text, "bash", "-euo", "pipefail", cwd=cwd, **values)


def python(text: str, cwd: Path) -> str:
    return run(text, sys.executable, "-W", "error", cwd=cwd)
