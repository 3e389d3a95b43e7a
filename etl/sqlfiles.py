"""Finds, orders, name-checks and hashes SQL files. Knows no statement in them."""

from __future__ import annotations

import hashlib
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

NAME = re.compile(r"[0-9]{3}_[a-z0-9_]+\.sql")

#: How to name a file, as messages say it.
NAMING = (
    "a SQL file is named like 010_what_it_does.sql: three digits, an underscore, then "
    "a to z, 0 to 9 and underscores"
)

#: The folders of a pipeline; without the required ones there is nothing to do.
REQUIRED_FOLDERS = ("schema", "build")
FOLDERS = ("schema", "citus", "clean", "build", "check", "charts")

#: Names beside SQL files that stop nothing: hidden files, documentation, and what
#: editors and patch leave behind. Anything else there may be a SQL file that was meant
#: to run.
IGNORED = re.compile(
    r"\..*|README(?:\.txt)?|.*\.md|.*~|#.*#|.*\.(?:bak|orig|rej|swp|swo|tmp)",
    re.IGNORECASE,
)

#: What a file names that takes a share of the rows on each build worker: a function,
#: and the setting that it reads.
SLICES = "etl.slices"

#: A line of a file's header, as ``-- severity: warn``.
HEADER = re.compile(r"^-- (\w+):[ \t]*(.*?)[ \t]*$", re.MULTILINE)

#: Folders whose files do not change once they were applied. Their headers say nothing,
#: whatever a comment in them looks like.
FROZEN = ("schema", "citus")

#: Header lines with one of a few values.
HEADER_VALUES = {
    "overridden_by": ("allow_empty",),
    "runs": ("always",),
    "severity": ("warn", "error"),
}

#: What a rule rejects, ``source.column`` or ``source (column, column)``, and why.
REJECTS = re.compile(r"(\w+)(?:\.(\w+)| ?\((\w+(?:, ?\w+)*)\))")
REASON = re.compile(r"[a-z][a-z0-9_]{0,62}")

#: What a file of the build does again where records were appended: ``a (key) by b``.
REDOES = re.compile(
    r"(?P<target>[\w.]+) \((?P<keys>\w+(?:, \w+)*)\) by (?P<changes>[\w.]+)"
)


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

    @cached_property
    def header(self) -> dict[str, str]:
        """The values of its header lines, by name."""
        return {found[1]: found[2] for found in HEADER.finditer(self.text)}

    @property
    def redoes(self) -> re.Match[str] | None:
        """Which rows the file does again where records were appended, if it says so."""
        return REDOES.fullmatch(self.header.get("redoes", ""))

    @property
    def in_slices(self) -> bool:
        """Whether build workers share its work, each running it on its slice."""
        return SLICES in self.text

    @property
    def only_warns(self) -> bool:
        """Whether the rows of this check are a warning, and do not stop the run."""
        return self.header.get("severity") == "warn"


@dataclass(frozen=True)
class Rule:
    """A file of ``clean``: a query for the values that mark bad records.

    It rejects records of ``source.csv``; ``at_fault`` are the columns that its rejects
    name. With ``keeps_first``, the first record of those that share a value stays.
    ``runs_after`` is a file of the build, and ``verified_by`` a check that finds rows
    whenever the rule does: while that check passes, the rule need not run.
    """

    file: SqlFile
    source: str
    at_fault: list[str]
    reason: str
    keeps_first: bool
    runs_after: str | None
    verified_by: str | None

    @classmethod
    def of(cls, file: SqlFile) -> Rule:
        """Read the header of a file. Raises SqlFileError."""
        header = file.header
        rejects = REJECTS.fullmatch(header.get("rejects", ""))
        if rejects is None:
            raise _wrong_header(
                file, "rejects", "source.column, or source (column, column)"
            )
        if not REASON.fullmatch(header.get("reason", "")):
            raise _wrong_header(file, "reason", "one word, such as unknown_user")
        if header.get("keeps", "first") != "first":
            raise _wrong_header(file, "keeps", "first, or left out")
        return cls(
            file=file,
            source=rejects[1],
            at_fault=re.split(", ?", rejects[2] or rejects[3]),
            reason=header["reason"],
            keeps_first="keeps" in header,
            runs_after=header.get("runs_after"),
            verified_by=header.get("verified_by"),
        )


def _wrong_header(file: SqlFile, name: str, expected: str) -> SqlFileError:
    given = file.header.get(name)
    said = f'"-- {name}: {given}"' if given is not None else f'no line "-- {name}: …"'
    return SqlFileError(f"{file.path} has {said}: a rule says {expected} there")


def read_pipeline(
    sql_dir: Path, folders: Collection[str] = FOLDERS
) -> dict[str, list[SqlFile]]:
    """The SQL files of a pipeline by folder, those of ``folders`` alone.

    Raises SqlFileError for what read_folder refuses, a folder that is missing, empty or
    unknown, and a rule whose header is wrong, or names a file that is not there.
    """
    _require_folders(sql_dir)
    files = {folder: read_folder(sql_dir / folder) for folder in folders}
    for folder in REQUIRED_FOLDERS:
        if folder in files and not files[folder]:
            raise SqlFileError(f"SQL_DIR: {sql_dir / folder} holds no SQL file")
    for rule in map(Rule.of, files.get("clean", ())):
        for name, folder in (("runs_after", "build"), ("verified_by", "check")):
            path = rule.file.header.get(name)
            if path and path not in {file.path for file in files[folder]}:
                header = f'"-- {name}: {path}"'
                raise SqlFileError(
                    f"{rule.file.path}: {header} names no file of {folder}"
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
    if file.folder in FROZEN:
        return file
    for line, values in HEADER_VALUES.items():
        given = file.header.get(line)
        if given is not None and given not in values:
            raise SqlFileError(
                f'{name}: "-- {line}: {given}" is unknown: say {" or ".join(values)}'
            )
    redoes = file.header.get("redoes")
    if redoes is not None and file.redoes is None:
        raise SqlFileError(
            f'{name}: "-- redoes: {redoes}" is wrong: say "target (key) by changes"'
        )
    return file


def locate(text: str, offset: int) -> str:
    """Where a character of ``text`` is, as people count: ``line 3, column 8``."""
    line_start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, line_start) + 1
    return f"line {line}, column {offset - line_start + 1}"
