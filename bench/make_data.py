"""Makes the three CSV files of the benchmark: ``make_data.py FOLDER USERS SHAPE``.

Ten experiments a user, one to five ids each, a tab after every comma as in the
challenge's files. ``few``: a thousand compounds, each user draws from six of them.
``many``: compounds drawn from a hundred thousand, the low numbers more often.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

EXPERIMENTS_PER_USER = 10
COMPOUNDS = {"few": 1_000, "many": 100_000}
FAVOURITES = 6

#: Bytes that are written at once.
BUFFER = 1 << 20


def main() -> None:
    """Write the files; the same arguments give the same bytes."""
    make_data(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])


def make_data(folder: Path, users: int, shape: str) -> None:
    """Write the files of so many users."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "compounds.csv", _compounds(COMPOUNDS[shape]))
    _write(folder / "users.csv", _users(users))
    _write(folder / "user_experiments.csv", _experiments(users, shape))


def _write(path: Path, lines: Iterator[str]) -> None:
    with path.open("w", encoding="ascii", buffering=BUFFER) as file:
        file.writelines(lines)


def _compounds(count: int) -> Iterator[str]:
    yield "compound_id,\tcompound_name,\tcompound_structure\n"
    for number in range(1, count + 1):
        yield f"{number},\tCompound {number},\tC{number % 40 + 1}H{number % 80 + 2}O2\n"


def _users(count: int) -> Iterator[str]:
    yield "user_id,\tname,\temail,\tsignup_date\n"
    for number in range(1, count + 1):
        day = f"202{number % 4}-{number % 12 + 1:02}-{number % 28 + 1:02}"
        yield f"{number},\tUser {number},\tuser{number}@example.com,\t{day}\n"


def _experiments(users: int, shape: str) -> Iterator[str]:
    yield "experiment_id,\tuser_id,\texperiment_compound_ids,\texperiment_run_time\n"
    source = random.Random(20260101)
    draw = source.random
    compounds = COMPOUNDS[shape]
    names = [str(number) for number in range(1, compounds + 1)]
    places_of = [range(count) for count in range(6)]
    order = array("q", range(users))
    source.shuffle(order)
    number = 0
    for _ in range(EXPERIMENTS_PER_USER):
        for user in order:
            number += 1
            places = places_of[1 + int(draw() * 5)]
            if shape == "few":
                first = user * 7
                picked = [
                    names[(first + int(draw() * FAVOURITES) * 131) % compounds]
                    for _ in places
                ]
            else:
                picked = [names[int(draw() ** 3 * compounds)] for _ in places]
            ids = ";".join(picked)
            yield f"{number},\t{user + 1},\t{ids},\t{5 + int(draw() * 56)}\n"


if __name__ == "__main__":
    main()
