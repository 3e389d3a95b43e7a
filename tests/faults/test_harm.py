"""scripts/harm.sh does what docs/reliability.md says of it: a few kills of many."""

from __future__ import annotations

import re
import subprocess

from etl.settings import PROJECT
from tests.support.processes import SECONDS, environment

SCRIPT = str(PROJECT / "scripts" / "harm.sh")


def test_a_few_kills() -> None:
    ended = subprocess.run(
        [SCRIPT, "--parts", "kills", "--seed", "1", "--times", "2"],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = re.findall(r"^\| kills +\| 1 \| 2 \| \d+ \| 0 \|", ended.stdout, re.M)
    assert len(rows) == 1, ended.stdout


def test_every_part_is_described() -> None:
    described = subprocess.run(
        [SCRIPT, "--help"], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout
    parts = re.findall(r"(\w+) \([\d,]+\)", described)
    page = (PROJECT / "docs" / "reliability.md").read_text()
    assert len(parts) > 5
    assert [part for part in parts if f"`{part}`" not in page] == []
