"""Proof that all reject the same records: a thousand users, a few records broken.

Only what a peer promises: repeated numbers, unknown users, values and lists that are
none. (The service rejects more: fields too many or too few, quotes out of place.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders import Mismatch, compare, seconds, the_peer, the_service
from make_data import make_data
from postgres import Postgres
from report import progress
from service import serving

USERS = 1_000

#: Records that come in the midst of each file, and how many of them must go.
MORE: Mapping[str, Sequence[str]] = {
    "users.csv": [
        "7,\tAgain,\tagain@example.com,\t2024-01-01",
        "x8,\tNo Number,\tn@example.com,\t2024-01-01",
        "2001,\tNo Day,\tn@example.com,\t2024-13-01",
        "2002,\tNo Day,\tn@example.com,\t2024-02-30",
        "2002,\t  Has One \t,\tn@example.com,\t2024-02-29",
        "2003,\tWithout Experiments,\t,\t",
    ],
    "compounds.csv": [
        "5,\tAgain,\tC",
        "y,\tNo Number,\tC",
        "5000,\t,\tC",
    ],
    "user_experiments.csv": [
        "1,\t2002,\t5;5;5,\t10",
        "z,\t2,\t1;2,\t10",
        "20001,\tz,\t1;2,\t10",
        "20002,\t2,\t1;2,\tlong",
        "20003,\t2,\t1:3,\t10",
        "20004,\t2,\t1;x;3,\t10",
        "20005,\t2,\t1.5;3,\t10",
        "20006,\t999999,\t1;2,\t10",
        "20007,\t2001,\t1;2,\t10",
        "20008,\t2,\t9:9,\t10",
        "20008,\t2002,\t9;9,\t10",
        "20009,\t999999,\t9;9,\t10",
        "20009,\t2002,\t8;9; 9,\t10",
        "20010,\t2002,\t;8;; 8 ;\t8;8;,\t10",
        "20011,\t2002,\t,\t",
        "20012,\t2002,\t5000;+5000;05000;5000;5000,\t10",
    ],
}
REJECTED = {"users.csv": 4, "compounds.csv": 2, "user_experiments.csv": 11}


def prove_rejects(postgres: Postgres, folder: Path, peers: Sequence[str]) -> str:
    """Raises Mismatch; else one line that says what was compared."""
    progress("the same records rejected?")
    write_broken(folder)
    with serving({**postgres.environ, "DATA_DIR": str(folder)}) as service:
        record = service.trigger()
        rejected = {file["file"]: file["rejected"] for file in record["files"]}
        if rejected != REJECTED:
            raise Mismatch(f"the service rejected {rejected}, not {REJECTED}")
        ours = the_service(service)
        for name in peers:
            peer = the_peer(name, folder, postgres)
            seconds(peer)
            compare(postgres, ours, peer)
    if not peers:
        return "No peer took part, so no rows were compared."
    total = sum(REJECTED.values())
    return (
        f"Rows compared: the service and {', '.join(peers)} made the same "
        "ones wherever they took part, doubles equal to the last bit, and rejected the "
        f"same {total} records of a small set of broken ones."
    )


def write_broken(folder: Path) -> None:
    """Write the files of the small set."""
    make_data(folder, USERS, "few")
    for file, more in MORE.items():
        lines = (folder / file).read_text().splitlines()
        middle = len(lines) // 2
        mixed = [*lines[:middle], *more, *lines[middle:]]
        (folder / file).write_text("\n".join(mixed) + "\n")
