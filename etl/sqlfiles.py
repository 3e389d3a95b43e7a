"""Finds, orders, name-checks and hashes SQL files. Knows no statement in them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"\d{3}_[a-z0-9_]+\.sql")

#: A file that reads this setting is run once per build worker, each with its share.
SLICE_SETTING = "etl.slices"

#: The line of a check whose rows are told and stop nothing.
ONLY_WARNS = re.compile(r"^-- severity: warn$", re.MULTILINE)

#: The line of a rule that is not looked at while the check that it names finds nothing,
#: and of one that is looked at after the file of the build that it names.
PROOF = re.compile(r"^-- proof: +(\S+)$", re.MULTILINE)
AFTER = re.compile(r"^-- after: +(\S+)$", re.MULTILINE)


class SqlFileError(ValueError):
    """A SQL file that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class SqlFile:
    """One SQL file: ``folder`` is the folder's name, ``text`` what it holds."""

    folder: str
    name: str
    text: str
    sha256: str

    @property
    def path(self) -> str:
        """As people name it: ``build/020_features.sql``."""
        return f"{self.folder}/{self.name}"

    @property
    def in_slices(self) -> bool:
        """Whether build workers share its work, each running it on its slice."""
        return SLICE_SETTING in self.text

    @property
    def proof(self) -> str | None:
        """The check whose success proves that every row obeys this rule, if any."""
        found = PROOF.search(self.text)
        return found[1] if found else None

    @property
    def after(self) -> str | None:
        """The file of the build after which this rule is looked at, if any."""
        found = AFTER.search(self.text)
        return found[1] if found else None

    @property
    def only_warns(self) -> bool:
        """Whether the rows of this check are a warning, and no reason to stop."""
        return ONLY_WARNS.search(self.text) is not None


def read_folder(folder: Path) -> list[SqlFile]:
    """The SQL files of ``folder`` in the order of their names.

    A folder that is not there holds no files. Raises SqlFileError for a name that
    does not say its place, two files at one place, or a file that is not UTF-8.
    """
    files: list[SqlFile] = []
    for path in sorted(folder.glob("*.sql")):
        if not NAME.fullmatch(path.name):
            raise SqlFileError(f"{path}: a SQL file is named like 010_what_it_does.sql")
        if files and files[-1].name[:3] == path.name[:3]:
            raise SqlFileError(f"{path}: {files[-1].name} has the same number")
        files.append(_read(path))
    return files


def _read(path: Path) -> SqlFile:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SqlFileError(f"{path}: cannot read it: {error}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    return SqlFile(path.parent.name, path.name, text, sha256)
