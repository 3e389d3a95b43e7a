"""Makes ``.venv`` with pinned requirements: ``make_venv.py REQUIREMENTS``.

Run by the system's Python, so standard library only. Does nothing where the last run
installed the same requirements; two at once take turns; one cut short is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"

OLDEST_PYTHON = (3, 11)


def main() -> int:
    """Returns the exit code: 0, or 2 with one line that says what is missing."""
    if sys.version_info < OLDEST_PYTHON:
        return _fail(
            f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed"
        )
    wanted = _wanted(PROJECT / sys.argv[1])
    if _installed(wanted):
        return 0
    try:
        with (PROJECT / ".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return 0 if _installed(wanted) else _install(sys.argv[1], wanted)
    except OSError as error:
        return _fail(f"cannot make {VENV}: {error.strerror}: {error.filename}")


def _wanted(requirements: Path) -> set[str]:
    """What the stamp must hold: this Python, and the hash of each file."""
    files = [requirements]
    for line in requirements.read_text().splitlines():
        if line.startswith("-r "):
            files.append(requirements.parent / line[3:].strip())
    hashes = {
        f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files
    }
    return {f"python {sys.version_info.major}.{sys.version_info.minor}", *hashes}


def _installed(wanted: set[str]) -> bool:
    return (
        STAMP.exists()
        and PYTHON.exists()
        and wanted <= set(STAMP.read_text().splitlines())
    )


def _install(requirements: str, wanted: set[str]) -> int:
    print(f"Installing {requirements} into .venv (once) …", file=sys.stderr, flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        if "ensurepip" in made.stdout + made.stderr:
            return _fail("this Python lacks venv: on Debian, apt install python3-venv")
        return _fail(f"cannot make {VENV}: {_last_line(made)}")
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    filled = subprocess.run(
        [*pip, "install", "-r", str(PROJECT / requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if filled.returncode != 0:
        return _fail(f"pip could not install {requirements}: {_last_line(filled)}")
    STAMP.write_text("\n".join(sorted(wanted)) + "\n")
    return 0


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = (ended.stderr or ended.stdout).strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no word why"])[-1]


def _fail(words: str) -> int:
    print(words, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
