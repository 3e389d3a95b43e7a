"""The pipeline against a few lines of plain Python, over generated data."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.settings import Settings
from tests.support.client import features, trigger
from tests.support.lasting import LastingService, lasting_service

Row = list[str]

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
KEYS = st.integers(-(2**63), 2**63 - 1) | st.integers(1, 5)
LISTS = st.lists(st.integers(1, 4), max_size=4).map(lambda ids: ";".join(map(str, ids)))


@st.composite
def files(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Records of the three files, good ones all."""
    users = draw(st.lists(KEYS, unique=True, max_size=6))
    known = st.sampled_from(users or [0])
    most = 12 if users else 0
    experiments = draw(st.lists(st.tuples(known, LISTS), max_size=most))
    compounds = draw(st.lists(st.integers(1, 4), unique=True))
    return {
        "users.csv": [
            ["user_id", "name", "email", "signup_date"],
            *([str(user), draw(TEXT), draw(TEXT), "2024-02-29"] for user in users),
        ],
        "user_experiments.csv": [
            [
                "experiment_id",
                "user_id",
                "experiment_compound_ids",
                "experiment_run_time",
            ],
            *(
                [str(number), str(user), ids, "1.5"]
                for number, (user, ids) in enumerate(experiments)
            ),
        ],
        "compounds.csv": [
            ["compound_id", "compound_name", "compound_structure"],
            *([str(compound), draw(TEXT), "C"] for compound in compounds),
        ],
    }


def oracle(records: dict[str, list[Row]]) -> Iterator[dict[str, Any]]:
    """What features must hold, computed another way."""
    users = sorted(records["users.csv"][1:], key=lambda user: int(user[0]))
    experiments = records["user_experiments.csv"][1:]
    names = {int(number): name for number, name, _ in records["compounds.csv"][1:]}
    for number, name, email, signup_date in users:
        own = [ids for _, user, ids, _ in experiments if user == number]
        used = Counter(int(one) for ids in own for one in ids.split(";") if one)
        favourite = min(used, key=lambda one: (-used[one], one), default=None)
        yield {
            "user_id": int(number),
            "name": name.strip(" \t") or None,
            "email": email.strip(" \t") or None,
            "signup_date": signup_date,
            "total_experiments": len(own),
            "avg_experiments": len(experiments) / len(users),
            "experiments_pct": len(own) / len(experiments) if experiments else 0,
            "most_common_compound_id": favourite,
            "most_common_compound_name": (
                None
                if favourite is None
                else names.get(favourite, "").strip(" \t") or None
            ),
        }


class Service(LastingService):
    """The shipped pipeline over the files of an example."""

    def run(self) -> list[dict[str, Any]]:
        """The features after a run."""
        # a check would rightly refuse an example without users after one with some
        self.connection.execute("delete from features")
        rows: list[dict[str, Any]] = self.do(self._run())
        return rows

    async def _run(self) -> list[dict[str, Any]]:
        await trigger(self.client)
        return await features(self.client)


@pytest.fixture
def service(database: str, tmp_path: Path) -> Iterator[Service]:
    chosen = Settings(port=0, data_dir=tmp_path, build_workers=3, database=database)
    with lasting_service(Service, chosen) as started:
        yield started


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records=files(), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_pipeline_agrees_with_the_oracle(
    service: Service, records: dict[str, list[Row]], quoting: Any
) -> None:
    for name, rows in records.items():
        with (service.data_dir / name).open("w", newline="") as file:
            csv.writer(file, quoting=quoting).writerows(rows)
    assert service.run() == list(oracle(records))
