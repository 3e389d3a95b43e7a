"""Finds, orders, name-checks and hashes SQL files. Knows no statement in them."""

from __future__ import annotations

import hashlib
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[0-9]{3}_[a-z0-9_]+\.sql")

#: How to name a file, as messages say it.
NAMING = (
    "a SQL file is named like 010_what_it_does.sql: three digits, an underscore, then "
    "a to z, 0 to 9 and underscores"
)

#: The folders of a pipeline; without the required ones there is nothing to do.
REQUIRED_FOLDERS = ("schema", "build")
FOLDERS = ("schema", "clean", "build", "check", "charts")

#: Names beside SQL files that stop nothing: hidden files, documentation, and what
#: editors and patch leave behind. Anything else there may be a SQL file that was meant
#: to run.
IGNORED = re.compile(
    r"\..*|README(?:\.txt)?|.*\.md|.*~|#.*#|.*\.(?:bak|orig|rej|swp|swo|tmp)",
    re.IGNORECASE,
)

#: A file that reads this setting is run once per build worker, each with its share.
SLICE_SETTING = "etl.slices"

#: The line of a check whose rows are told and stop nothing.
ONLY_WARNS = re.compile(r"^-- severity: warn$", re.MULTILINE)

#: The line of a check that a run may override, and the parameters of the trigger that
#: may do so.
OVERRIDDEN_BY = re.compile(r"^-- overridden_by:(.*)$", re.MULTILINE)
OVERRIDES = ("allow_empty",)

#: The line of a rule that is not looked at while the check that it names finds nothing,
#: and of one that is looked at after the file of the build that it names.
PROOF = re.compile(r"^-- proof: +(\S+)$", re.MULTILINE)
AFTER = re.compile(r"^-- after: +(\S+)$", re.MULTILINE)


class SqlFileError(ValueError):
    """A SQL file that cannot be used; the message is one line that names it, whatever
    characters a name has.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.encode(errors="backslashreplace").decode().split())
        super().__init__(line)


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
    def overridden_by(self) -> str | None:
        """The parameter of the trigger with which this check only warns, if any."""
        found = OVERRIDDEN_BY.search(self.text)
        return found[1].strip() if found else None

    @property
    def only_warns(self) -> bool:
        """Whether the rows of this check are a warning, and no reason to stop."""
        return ONLY_WARNS.search(self.text) is not None


def read_pipeline(
    sql_dir: Path, folders: Collection[str] = FOLDERS
) -> dict[str, list[SqlFile]]:
    """The SQL files of a pipeline by folder, those of ``folders`` alone.

    Raises SqlFileError for what read_folder refuses, a folder that is missing, empty or
    unknown, and a rule that names a check or a file of the build that is not there.
    """
    _require_folders(sql_dir)
    files = {folder: read_folder(sql_dir / folder) for folder in folders}
    for folder in REQUIRED_FOLDERS:
        if folder in files and not files[folder]:
            raise SqlFileError(f"SQL_DIR: {sql_dir / folder} holds no SQL file")
    paths = {file.path for folder in files.values() for file in folder}
    for rule in files.get("clean", ()):
        for header, named in (("proof", rule.proof), ("after", rule.after)):
            if named and named not in paths:
                raise SqlFileError(
                    f'{rule.path}: "-- {header}: {named}" names no file that is there'
                )
    return files


def _require_folders(sql_dir: Path) -> None:
    """Raise SqlFileError unless ``sql_dir`` looks like a pipeline, and nothing else."""
    entries = _entries(sql_dir)
    names = {path.name for path, is_folder in entries if is_folder}
    for folder in REQUIRED_FOLDERS:
        if folder not in names:
            inner = sql_dir / "sql"
            where = f"; did you mean {inner}?" if (inner / folder).is_dir() else ""
            raise SqlFileError(
                f"SQL_DIR: {sql_dir} has no folder {folder}: a pipeline has schema "
                f"(what makes its tables) and build (what fills features_next){where}"
            )
    for path, is_folder in entries:
        if path.name in FOLDERS or IGNORED.fullmatch(path.name):
            continue
        if is_folder:
            raise SqlFileError(
                f"SQL_DIR: {path} would be passed over: the folders of a pipeline are "
                f"{', '.join(FOLDERS)}; rename it, or move it elsewhere"
            )
        if path.suffix.lower() == ".sql":
            raise SqlFileError(
                f"SQL_DIR: {path} would be passed over: move it into one of the "
                f"folders {', '.join(FOLDERS)}"
            )


def read_folder(folder: Path) -> list[SqlFile]:
    """The SQL files of ``folder`` in the order of their names.

    A folder that is not there holds no files. Raises SqlFileError for a name that
    does not say its place, two files at one place, a file that is not UTF-8, a header
    line with a value that it may not have, and anything that would be passed over
    though it may be meant as a SQL file.
    """
    files: list[SqlFile] = []
    for path, is_folder in _entries(folder):
        name = f"{folder.name}/{path.name}"
        if is_folder:
            if not path.name.startswith("."):
                raise SqlFileError(
                    f"{name} is a folder and would be passed over: move its files into "
                    f"{folder.name}/, or the folder elsewhere"
                )
        elif NAME.fullmatch(path.name):
            if files and files[-1].name[:3] == path.name[:3]:
                raise SqlFileError(
                    f"{name}: {files[-1].name} has the same number: give it another"
                )
            files.append(_read(path, name))
        elif not IGNORED.fullmatch(path.name):
            raise SqlFileError(f"{name} would be passed over: {NAMING}")
    return files


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder, by name, and whether it is a folder itself; nothing where
    there is no such folder.
    """
    try:
        return [(path, path.is_dir()) for path in sorted(folder.iterdir())]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SqlFileError(
            f"SQL_DIR: {folder}: cannot read it: {error.strerror}"
        ) from None


def _read(path: Path, name: str) -> SqlFile:
    """Read a file. Git may have changed its line ends, and an editor may have put a
    byte-order mark before it: neither changes what it says, or its hash.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise SqlFileError(f"{name} is not a regular file")
        content = path.read_bytes()
    except OSError as error:
        raise SqlFileError(f"{name}: cannot read it: {error.strerror}") from None
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise SqlFileError(f"{name} is UTF-16: save it as UTF-8")
    content = content.removeprefix(BOM_UTF8).replace(b"\r\n", b"\n")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        where = locate(before := content[: error.start].decode(), len(before))
        raise SqlFileError(
            f"{name}, {where}: the byte 0x{content[error.start]:02X} is not UTF-8: "
            "save the file as UTF-8"
        ) from None
    if "\0" in text:
        where = locate(text, text.index("\0"))
        raise SqlFileError(f"{name}, {where}: a null byte: save the file as UTF-8")
    sha256 = hashlib.sha256(content).hexdigest()
    file = SqlFile(path.parent.name, path.name, text, sha256)
    if file.overridden_by not in (None, *OVERRIDES):
        header = f'"-- overridden_by: {file.overridden_by}"'
        raise SqlFileError(
            f"{name}: {header} is no parameter of the trigger that may override a "
            f"check: say {' or '.join(OVERRIDES)}"
        )
    return file


def locate(text: str, offset: int) -> str:
    """Where a character of ``text`` is, as people count: ``line 3, column 8``."""
    line_start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, line_start) + 1
    return f"line {line}, column {offset - line_start + 1}"
