"""Node and the clients of PostgREST that npm has, and a process that drives one."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

#: The driver, and the packages with their versions.
FOLDER = Path(__file__).parents[1] / "clients"

#: What npm says where its registry is out of reach.
UNREACHABLE = re.compile(
    r"ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOST|ENET|ERR_SOCKET_TIMEOUT|network"
)

#: The oldest Node on which these clients were seen to work.
OLDEST = 18

SECONDS = 120


def install(folder: Path) -> Path:
    """Install the packages into ``folder``, once for each content of the lock file.

    Skips the test where that cannot be: without Node, npm or its registry.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node on this machine: apt-get install nodejs npm")
    version = _run("node", "--version", cwd=folder).stdout.strip()
    if int(version[1:].partition(".")[0]) < OLDEST:
        pytest.skip(f"Node {version} is older than {OLDEST}")
    files = ("package.json", "package-lock.json", ".npmrc", "drive.mjs")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in files:
            shutil.copyfile(FOLDER / name, folder / name)
        wanted = (FOLDER / "package-lock.json").read_text()
        installed = folder / "installed"
        if not installed.exists() or installed.read_text() != wanted:
            ended = _run("npm", "ci", "--ignore-scripts", cwd=folder)
            if ended.returncode and UNREACHABLE.search(ended.stderr):
                pytest.skip("npm's registry is out of reach")
            assert ended.returncode == 0, ended.stderr
            installed.write_text(wanted)
    return folder


def run_module(folder: Path, text: str) -> str:
    """Run a JavaScript module that may import the packages; what it printed."""
    ended = _run("node", "--input-type=module", cwd=folder, given=text)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def drive(folder: Path, client: str, url: str, calls: list[str]) -> list[Any]:
    """What each of these calls of a client came to, in one process."""
    ended = _run(
        "node",
        "drive.mjs",
        client,
        cwd=folder,
        given=json.dumps({"url": url, "calls": calls}),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    results: list[Any] = json.loads(ended.stdout)
    assert len(results) == len(calls)
    return results


def _run(
    *command: str, cwd: Path, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without a proxy that could stand between."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") or command[0] == "npm"
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
