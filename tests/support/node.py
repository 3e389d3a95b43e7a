"""Node and the clients that npm has, and a process that drives one."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

#: The driver, and the packages with their versions.
FOLDER = Path(__file__).parents[1] / "clients"

#: What npm says where its registry is out of reach.
UNREACHABLE = re.compile(
    r"ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOST|ENET|ERR_SOCKET_TIMEOUT|network"
)

#: The oldest Node on which the clients of PostgREST were seen to work.
OLDEST = 18

#: An installation, and any other process.
INSTALL_SECONDS, SECONDS = 240, 120

#: Redocly reports what it did, and asks for newer versions of itself.
SILENT = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def install(folder: Path) -> Path:
    """Install the packages into ``folder``, once for each content of the lock file.

    Skips the test where that cannot be: without Node, npm or its registry.
    """
    require_node(OLDEST)
    files = ("package.json", "package-lock.json", ".npmrc", "drive.mjs")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in files:
            shutil.copyfile(FOLDER / name, folder / name)
        wanted = (FOLDER / "package-lock.json").read_text()
        installed = folder / "installed"
        if not installed.exists() or installed.read_text() != wanted:
            # npm's cache has as much again as the packages.
            with tempfile.TemporaryDirectory() as cache:
                options = ("--ignore-scripts", "--cache", cache)
                ended = _run("npm", "ci", *options, cwd=folder)
            if ended.returncode and UNREACHABLE.search(ended.stderr):
                pytest.skip("npm's registry is out of reach")
            assert ended.returncode == 0, ended.stderr
            installed.write_text(wanted)
    return folder


def require_node(oldest: int) -> None:
    """Skip the test without Node and npm, or where Node is older than this version."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node on this machine: apt-get install nodejs npm")
    version = _run("node", "--version", cwd=FOLDER).stdout.strip()
    if int(version[1:].partition(".")[0]) < oldest:
        pytest.skip(f"Node {version} is older than {oldest}")


def run_tool(packages: Path, name: str, *arguments: object, cwd: Path) -> str:
    """Run a program of the packages, which must succeed; what it printed."""
    program = packages / "node_modules" / ".bin" / name
    ended = _run("node", str(program), *map(str, arguments), cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def run_node(script: Path, *arguments: str) -> str:
    """Run a script; what it printed."""
    ended = _run("node", str(script), *arguments, cwd=script.parent)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


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
    is_npm = command[0] == "npm"
    environment = SILENT | {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") or is_npm
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS if is_npm else SECONDS,
        check=False,
    )
