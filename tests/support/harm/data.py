"""The CSV files of a part: whole new ones, appended ones, and those that stay."""

from __future__ import annotations

from pathlib import Path
from random import Random

HEADERS = {
    "users": "user_id,name,email,signup_date",
    "user_experiments": (
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time"
    ),
    "compounds": "compound_id,compound_name,compound_structure",
}

#: Few enough for a run of half a second.
USERS, COMPOUNDS = 400, 20


class Data:
    """A folder of data, which changes step by step; some records are bad."""

    def __init__(self, folder: Path, rng: Random, users: int = USERS) -> None:
        self._folder, self._rng = folder, rng
        self._users, self._experiments, self._version = users, 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.renew()

    def change(self) -> str:
        """Change the files in one of three ways; which."""
        kind = self._rng.choice(["renewed", "renewed", "appended", "appended", "kept"])
        if kind == "renewed":
            self.renew()
        elif kind == "appended":
            self._append()
        return kind

    def renew(self) -> None:
        """Files with other names in every row, and other experiments."""
        self._version += 1
        count = self._users - self._rng.randrange(self._users // 2)
        users = [
            f"{number},V{self._version},{number}@example.com,2024-01-01"
            for number in range(1, count + 1)
        ]
        self._write("users", [*users, "1,Twice,,", "x,No number,,"])
        compounds = [f"{n},C{n}-{self._version},H{n}" for n in range(1, COMPOUNDS + 1)]
        self._write("compounds", compounds)
        self._experiments = 0
        self._write("user_experiments", self._more_experiments(10 * count))

    def _append(self) -> None:
        count = self._rng.randint(1, self._users)
        with (self._folder / "user_experiments.csv").open("a") as file:
            file.writelines(f"{line}\n" for line in self._more_experiments(count))

    def _more_experiments(self, count: int) -> list[str]:
        """Some of a user whom users.csv lacks, which are rejected."""
        rng, first = self._rng, self._experiments + 1
        self._experiments += count
        return [
            f"{number},{rng.randint(1, self._users * 11 // 20)},"
            f"{rng.randint(1, COMPOUNDS)};{rng.randint(1, COMPOUNDS)},{number % 90}"
            for number in range(first, first + count)
        ]

    def _write(self, table: str, lines: list[str]) -> None:
        """In one step, as a run may be reading."""
        path = self._folder / f"{table}.csv"
        unfinished = path.with_suffix(".new")
        unfinished.write_text("\n".join([HEADERS[table], *lines, ""]))
        unfinished.replace(path)
