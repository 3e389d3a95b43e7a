"""test.sh: which tools it runs, in which order, and what it says in the end.

Runs the script itself in a folder whose Python only notes what it was asked to run.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from etl.settings import PROJECT

#: Stands in for the Python of .venv: the tools themselves would take minutes.
PYTHON = """#!/bin/sh
echo "$*"
case " $FAILING " in *" $2 "*) exit 3 ;; esac
"""

PYTEST = "-m pytest --numprocesses auto --dist loadfile"
LINTERS = [
    "-m ruff check .",
    "-m ruff format --check .",
    "-m mypy",
    "-m sqlfluff lint sql examples etl scripts",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(PROJECT / "test.sh", tmp_path)
    shutil.copy(PROJECT / "scripts" / "common.bash", tmp_path / "scripts")
    (tmp_path / "scripts" / "make_venv.py").write_text("")
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def run(
    folder: Path, *arguments: str, failing: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "test.sh"), *arguments],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "FAILING": failing},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_arguments_are_for_pytest_alone(folder: Path) -> None:
    ended = run(folder, "tests/a b.py", "-k", "tie")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "-m pytest tests/a b.py -k tie\n"
    assert run(folder, "-x", failing="pytest").returncode == 3


@pytest.mark.parametrize(
    ("failing", "code", "words"),
    [
        ("", 0, ""),
        ("pytest", 1, "tests failed\n"),
        (
            "ruff mypy",
            1,
            "ruff check ., ruff format --check ., mypy failed:"
            " to fix what can be fixed, ./test.sh --fix\n",
        ),
        (
            "pytest sqlfluff",
            1,
            "tests failed; sqlfluff lint sql examples etl scripts failed:"
            " to fix what can be fixed, ./test.sh --fix\n",
        ),
    ],
)
def test_tests_come_first_and_every_linter_runs(
    folder: Path, failing: str, code: int, words: str
) -> None:
    ended = run(folder, failing=failing)
    assert (ended.returncode, ended.stderr) == (code, words)
    assert ended.stdout.splitlines() == [PYTEST, *LINTERS]


def test_fix_runs_what_can_fix(folder: Path) -> None:
    ended = run(folder, "--fix")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "-m ruff check --fix .",
        "-m ruff format .",
        "-m sqlfluff fix sql examples etl scripts",
    ]
    ended = run(folder, "--fix", failing="ruff")
    assert ended.returncode == 1
    assert len(ended.stdout.splitlines()) == 3
