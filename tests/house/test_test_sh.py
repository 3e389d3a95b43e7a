"""test.sh and scripts/audit.sh: which tools they run, in which order, and what they say
in the end; and the venv that they make first, as the other scripts do.

Runs the scripts themselves in a folder whose Python only prints what it is to run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl.settings import PROJECT

#: The Python of .venv: the tools themselves would take minutes.
PYTHON = """#!/bin/sh
echo "$*${TEST_DATABASE_URL:+ on $TEST_DATABASE_URL}"
case " $FAILING " in *" $2 "*) printf "$SAYS" >&2; exit 3 ;; esac
"""

#: The Python that makes .venv, with that one in it.
BASE = f"""#!/bin/sh
case "$FAILING $*" in
    ensurepip*ensurepip*) exit 1 ;;
    *"-m venv --clear "*) mkdir -p "$4/bin" && cp "${{0%/*}}/python" "$4/bin" ;;
    *) exec {sys.executable} "$@" ;;
esac
"""

FILES = ("requirements.txt", "requirements-dev.txt")

PYTEST = "-m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder"
LINTERS = [
    "-m ruff check .",
    "-m ruff format --check .",
    "-m mypy",
    "-m sqlfluff lint sql examples etl scripts",
]


PIP = "-m pip --disable-pip-version-check --quiet install --require-hashes -r {}/{}\n"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without .venv."""
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    for name in ("test.sh", "scripts/common.bash", "scripts/audit.sh", *FILES):
        shutil.copy(PROJECT / name, folder / name)
    for name, text in (("python", PYTHON), ("base", BASE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return folder


@pytest.fixture
def folder(bare: Path) -> Path:
    """A checkout whose .venv has all that is needed."""
    assert use_venv(bare).returncode == 0
    return bare


def run(
    folder: Path,
    *arguments: str,
    failing: str = "",
    script: str = "./test.sh",
    citus: str = "",
    says: str = "",
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'{script} "$@"', "bash", *arguments],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHON": str(folder.parent / "base"),
            "FAILING": failing,
            "SAYS": says,
            "TEST_CITUS_URL": citus,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def use_venv(
    folder: Path, file: str = "requirements-dev.txt", failing: str = ""
) -> subprocess.CompletedProcess[str]:
    return run(folder, file, failing=failing, script=". scripts/common.bash; use_venv")


def test_the_venv_is_made_once(bare: Path) -> None:
    made = use_venv(bare)
    assert made.returncode == 0
    assert made.stdout == PIP.format(bare, "requirements-dev.txt")
    assert made.stderr == "Installing requirements-dev.txt into .venv (once) …\n"
    for file in FILES:  # the other is a part of it
        again = use_venv(bare, file)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_two_at_once_make_one_venv(bare: Path) -> None:
    both = ". scripts/common.bash; (use_venv $1) & (use_venv $1) & wait; :"
    ended = run(bare, "requirements.txt", script=both)
    assert ended.stdout == PIP.format(bare, "requirements.txt")


def test_the_venv_follows_the_requirements(folder: Path) -> None:
    for file in FILES:
        with (folder / file).open("a") as requirements:
            requirements.write("# more\n")
        assert use_venv(folder).stdout == PIP.format(folder, "requirements-dev.txt")
    assert use_venv(folder).stdout == ""


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("ensurepip", "this Python lacks venv: on Debian, apt install python3-venv\n"),
        ("pip", "pip could not install requirements-dev.txt\n"),
    ],
)
def test_a_venv_that_cannot_be_made_is_tried_again(
    bare: Path, failing: str, message: str
) -> None:
    ended = use_venv(bare, failing=failing)
    assert ended.returncode == 2
    assert ended.stderr.endswith(message)
    assert use_venv(bare).stdout == PIP.format(bare, "requirements-dev.txt")


def test_an_old_python_is_refused(bare: Path) -> None:
    tools = bare.parent / "tools"
    tools.mkdir()
    for name, target in (("dirname", "dirname"), ("python3", "false")):
        (tools / name).symlink_to(str(shutil.which(target)))
    script = f"PATH='{tools}' PYTHON= ; . scripts/common.bash; use_venv"
    ended = run(bare, "requirements.txt", script=script)
    assert ended.returncode == 2
    assert ended.stderr == (
        "Python 3.11 or newer is needed: none was found as python3\n"
    )


def test_a_python_for_which_postgres_has_a_package_is_preferred(bare: Path) -> None:
    tools = bare.parent / "tools"
    tools.mkdir()
    (tools / "dirname").symlink_to(str(shutil.which("dirname")))
    for name, below in (("python3", "4,0"), ("python3.13", "3,15")):
        path = tools / name
        path.write_text(
            f'#!/bin/sh\ncase "$2" in *"({below})"*) ;; *) exit 1 ;; esac\n'
        )
        path.chmod(0o755)
    script = f"PATH='{tools}' PYTHON= ; . scripts/common.bash; find_python"
    assert run(bare, script=script).stdout == "python3.13\n"
    (tools / "python3.13").unlink()
    assert run(bare, script=script).stdout == "python3\n"


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


def test_named_runs_the_tests_of_a_database_again(folder: Path) -> None:
    on_16 = f"-m tests.support.tcpserver {PYTEST.removeprefix('-m ')} -m database"
    ended = run(folder, "--named")
    assert ended.stdout == f"{on_16}\n"
    assert ended.stderr == "TEST_CITUS_URL is not set: no test ran on Citus\n"
    assert ended.returncode == 0
    ended = run(folder, "--named", failing="tests.support.tcpserver", citus="CITUS")
    assert ended.stdout == f"{on_16}\n{PYTEST} -m database on CITUS\n"
    assert ended.stderr == f"failed: {on_16.removeprefix('-m ')}\n"
    assert ended.returncode == 1


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


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("Found 1 known vulnerability in 1 package", 1),
        ("aiohttp: Dependency not found on PyPI", 2),
        ("requests.exceptions.ConnectionError: no such host", 2),
    ],
)
def test_audit_tells_a_vulnerability_from_a_database_out_of_reach(
    folder: Path, says: str, code: int
) -> None:
    assert run(folder, script="scripts/audit.sh").returncode == 0
    ended = run(folder, failing="pip_audit", says=says, script="scripts/audit.sh")
    assert ended.returncode == code
    line = (ended.stdout + ended.stderr).splitlines()[-1]
    assert (
        line == ("not audited for known vulnerabilities: " if code == 2 else "") + says
    )
