"""Duplicate keys are found whatever their order: before the build where their number
and their sum prove them, by a check where they do not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from etl.settings import RejectLimit
from tests.support.client import StartService, get, trigger

RECORDS, USERS = 900, 30


def ascending() -> list[int]:
    return list(range(1, RECORDS + 1))


def with_values(*values: tuple[int, int]) -> list[int]:
    """Ascending keys, but these (place, key)."""
    keys = ascending()
    for place, key in values:
        keys[place] = key
    return keys


def even() -> list[int]:
    return list(range(2, 2 * RECORDS + 2, 2))


#: Keys by name.
SHAPES = {
    "none": ascending(),
    "next_to_it": with_values((400, 400)),
    "low_and_late": with_values((700, 17)),
    "high_and_early": with_values((20, 880)),
    "twice_in_one_place": with_values((700, 17), (702, 17)),
    "at_both_ends": with_values((0, 2**63 - 1), (899, 2**63 - 1)),
    "below_zero": [key - 70 for key in with_values((5, 3), (80, 300))],
    "lowest_and_highest": with_values((0, -(2**63)), (899, 2**63 - 1)),
    "out_of_place_alone": with_values((700, -5)),
    "pairs_from_the_lowest": [-(2**63) + place // 2 for place in range(RECORDS)],
    "pairs_up_to_the_highest": [2**63 - 1 - place // 2 for place in range(RECORDS)],
    "one_more": [*ascending()[:-1], 450],
    "gaps": even(),
    "gaps_and_repeated": [*even()[:-1], 2],
    "gaps_and_repeated_below_zero": [*(key - 999 for key in even()[:-1]), -997],
    "far_apart": [key * 1000 for key in ascending()],
    "far_apart_evenly": [key * 1001 for key in ascending()],  # the sum is a range's
    "far_apart_and_repeated": [key * 1000 for key in with_values((7, 600))],
    "shuffled": random.Random(1).sample(ascending(), RECORDS),
    "shuffled_and_repeated": [
        random.Random(2).randint(1, RECORDS) for _ in range(RECORDS)
    ],
    "descending": ascending()[::-1],
}


def records(keys: Sequence[int], users: Sequence[int], irregular: Sequence[int]) -> str:
    """Lines of experiments; lists of the ``irregular`` ones are good all the same."""
    header = "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"
    return header + "".join(
        f"{key},{user},{'1; 2' if place in irregular else '1'},1\n"
        for place, (key, user) in enumerate(zip(keys, users, strict=True))
    )


def builds(answer: Any) -> int:
    """How often the run was built."""
    files = [step["file"] for step in answer["run"]["steps"]]
    return files.count("build/010_activity.sql")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("unknown", "irregular"), [((), ()), ((16, 399, 700, 879), (18, 401, 699))]
)
async def test_duplicate_keys(
    start_service: StartService,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    unknown: tuple[int, ...],
    irregular: tuple[int, ...],
) -> None:
    """The first record stays, of those whose user is known. Irregular records take
    another way into the table than the others of their block.
    """
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda streams: 128)
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    keys = SHAPES[shape]
    users = [
        9999 if place in unknown else place % USERS + 1 for place in range(RECORDS)
    ]
    (data_dir / "users.csv").write_text(
        "user_id,name,email,signup_date\n"
        + "".join(f"{number},N,e,\n" for number in range(1, USERS + 1))
    )
    (data_dir / "user_experiments.csv").write_text(records(keys, users, irregular))
    client = await start_service(max_rejects=RejectLimit.parse("100%"))
    for most_builds in (2, 1):  # the rules that rejected something run first again
        answer = await trigger(client)
        found = await get(client, f"/runs/{answer['run']['id']}/rejects")
        wanted = []
        seen: dict[int, int] = {}
        for line, (key, user) in enumerate(zip(keys, users, strict=True), start=2):
            if user == 9999:
                wanted.append((line, "unknown_user", "no record of users.csv with"))
            elif key in seen:
                wanted.append((line, "duplicate_key", f"line {seen[key]} has it"))
            else:
                seen[key] = line
        assert [
            (one["line"], one["reason"], one["message"][: len(text)])
            for one, (_, _, text) in zip(found, wanted, strict=True)
        ] == wanted
        assert builds(answer) <= most_builds


async def test_no_good_record_at_all(
    start_service: StartService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there are no keys to look at."""
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    text = records(ascending(), [1] * RECORDS, irregular=()).replace(",1,1,1", ",x,1,1")
    (data_dir / "user_experiments.csv").write_text(text)
    client = await start_service(max_rejects=RejectLimit.parse("100%"))
    answer = await trigger(client)
    files = {file["file"]: file for file in answer["run"]["files"]}
    assert files["user_experiments.csv"]["rejected"] == RECORDS


async def test_a_column_that_the_table_lacks(
    start_service: StartService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys are looked at all the same."""
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda streams: 128)
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    keys = SHAPES["low_and_late"]
    (data_dir / "user_experiments.csv").write_text(
        "experiment_id,note,user_id,experiment_compound_ids,experiment_run_time\n"
        + "".join(f"{key},any,1,1,1\n" for key in keys)
    )
    client = await start_service()
    answer = await trigger(client)
    found = await get(client, f"/runs/{answer['run']['id']}/rejects")
    assert [(one["line"], one["reason"]) for one in found] == [(702, "duplicate_key")]
    assert builds(answer) == 1


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ("next_to_it", 1),
        ("low_and_late", 1),
        ("high_and_early", 1),
        ("below_zero", 1),
        ("one_more", 1),
        ("gaps_and_repeated", 2),
        ("gaps_and_repeated_below_zero", 2),
        ("at_both_ends", 2),
    ],
)
@pytest.mark.parametrize("type_", ["bigint", "integer"])
async def test_duplicates_that_number_and_sum_prove(
    start_service: StartService,
    data_dir: Path,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    first: int,
    type_: str,
) -> None:
    """They do where keys leave no gap. Elsewhere the check finds them, the build runs
    once more, and the rule runs first in the next run.
    """
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    client = await start_service()
    await connection.execute(
        f"alter table staging.user_experiments alter experiment_id type {type_}"
    )
    keys = SHAPES[shape]
    if type_ == "integer":
        keys = [max(-(2**31), min(2**31 - 1, key)) for key in keys]
    again = [line for line, key in enumerate(keys, 2) if key in keys[: line - 2]]
    text = records(keys, [1] * len(keys), irregular=())
    (data_dir / "user_experiments.csv").write_text(text)
    for times in (first, 1):
        answer = await trigger(client)
        found = await get(client, f"/runs/{answer['run']['id']}/rejects")
        assert [one["line"] for one in found] == again
        assert builds(answer) == times


async def test_rules_that_checks_verify_do_not_run_without_suspicion(
    start_service: StartService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such rule runs where number and sum of the keys prove no duplicate."""
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    client = await start_service()
    for shape in ("none", "shuffled", "gaps", "out_of_place_alone", "far_apart_evenly"):
        text = records(SHAPES[shape], [1] * RECORDS, irregular=())
        (data_dir / "user_experiments.csv").write_text(text)
        answer = await trigger(client)
        files = {step["file"] for step in answer["run"]["steps"]}
        assert not files & {
            "clean/010_user_ids_are_unique.sql",
            "clean/040_experiment_ids_are_unique.sql",
        }
