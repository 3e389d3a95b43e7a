"""The requirements: all that is installed is pinned, with the hashes of its files."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from etl.settings import PROJECT
from tests.support.requirements import pins

#: What pip installs, and the group of pyproject.toml that scripts/lock.sh makes it of.
LOCKED = {
    "requirements.txt": "service",
    "requirements-dev.txt": "dev",
    "bench/requirements.txt": "bench",
}


def group(name: str) -> set[str]:
    """The packages of a group of pyproject.toml, without extras and markers."""
    groups: dict[str, list[Any]] = tomllib.loads(
        (PROJECT / "pyproject.toml").read_text()
    )["dependency-groups"]
    direct = {re.split(r"[\[;]", item)[0] for item in groups[name] if type(item) is str}
    included = [item["include-group"] for item in groups[name] if type(item) is dict]
    return direct.union(*map(group, included))


@pytest.mark.parametrize("file", LOCKED)
def test_requirements_are_those_of_the_group_pinned_with_hashes(file: str) -> None:
    found, service = pins(file), pins("requirements.txt")
    assert group(LOCKED[file]) - set(found) == set()
    assert {name: found.get(name) for name in service} == service


def test_pip_is_told_to_require_hashes() -> None:
    for file in ("scripts/common.bash", "Dockerfile"):
        assert "--require-hashes" in (PROJECT / file).read_text()
