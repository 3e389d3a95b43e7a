"""The files of the benchmark of changes: as they were first, and each one changed.

Knows what is in them; knows no service. The same files are made every time.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from make_data import COMPOUNDS, EXPERIMENTS_PER_USER, FAVOURITES

COMPOUNDS_FILE, USERS_FILE = "compounds.csv", "users.csv"
EXPERIMENTS_FILE = "user_experiments.csv"

#: Of so many experiments there is one more.
EXPERIMENTS_PER_NEW_ONE = 100


@dataclass(frozen=True)
class Files:
    """The folder that the service reads. It holds links alone: the files in ``first``
    stay as they are, and those in ``changed`` are made once.
    """

    folder: Path
    first: Path
    changed: Path

    def put(self, changed: str | None = None) -> None:
        """All files as they were first, but the one of this name changed."""
        for name in EDITS:
            link = self.folder / name
            link.unlink(missing_ok=True)
            source = self.changed if name == changed else self.first
            link.symlink_to((source / name).resolve())


def prepare_files(first: Path, folder: Path, users: int) -> Files:
    """Make every file's changed copy below ``folder``. ``first`` has the shape few."""
    files = Files(folder / "data", first, folder / "changed")
    files.folder.mkdir()
    files.changed.mkdir()
    for name, edit in EDITS.items():
        edit(first / name, files.changed / name, users)
    files.put()
    return files


def _rename_compound(source: Path, target: Path, users: int) -> None:
    """The name of the compound in the middle; it is the most common one of some."""
    number = COMPOUNDS["few"] // 2
    text = source.read_text()
    renamed = text.replace(f"\tCompound {number},", f"\tRenamed {number},")
    if renamed == text:
        raise ValueError(f"no compound {number} in {source.name}")
    target.write_text(renamed)


def _add_user(source: Path, target: Path, users: int) -> None:
    """A user without experiments at the end."""
    number = users + 1
    line = f"{number},\tUser {number},\tuser{number}@example.com,\t2026-01-01\n"
    _append(source, target, iter([line]))


def _add_experiments(source: Path, target: Path, users: int) -> None:
    """Experiments with new ids at the end; their lists are like those of the others."""
    _append(source, target, _experiments(users))


def _experiments(users: int) -> Iterator[str]:
    generator = random.Random(20260202)
    last = users * EXPERIMENTS_PER_USER
    for number in range(last + 1, last + 1 + last // EXPERIMENTS_PER_NEW_ONE):
        user = generator.randrange(users)
        ids = ";".join(
            str(
                (user * 7 + generator.randrange(FAVOURITES) * 131) % COMPOUNDS["few"]
                + 1
            )
            for _ in range(generator.randint(1, 5))
        )
        yield f"{number},\t{user + 1},\t{ids},\t{generator.randint(5, 60)}\n"


def _append(source: Path, target: Path, lines: Iterator[str]) -> None:
    shutil.copyfile(source, target)
    with target.open("a", encoding="ascii") as file:
        file.writelines(lines)


#: How each file is changed: from where, to where, and how many users there are first.
EDITS: Mapping[str, Callable[[Path, Path, int], None]] = {
    COMPOUNDS_FILE: _rename_compound,
    USERS_FILE: _add_user,
    EXPERIMENTS_FILE: _add_experiments,
}
