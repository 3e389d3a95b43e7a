"""What the files of requirements pin."""

from __future__ import annotations

import re

from etl.settings import PROJECT

REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[\w.]+)(?: ; [^\\]+?)?"
    r"(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each requirement; a line of another kind fails."""
    text = re.sub(r"^ *#.*\n", "", (PROJECT / file).read_text(), flags=re.MULTILINE)
    lines = re.sub(r" *\\\n *", " ", text).splitlines()
    found = {}
    for line in lines:
        match = REQUIREMENT.fullmatch(line)
        assert match, f"{file}: no pin with hashes: {line[:88]}"
        found[match["name"]] = (match["version"], frozenset(match["hashes"].split()))
    return found
