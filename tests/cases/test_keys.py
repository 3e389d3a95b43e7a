"""Repeated keys are found whatever their order: by what was seen while they were loaded
where that tells, by a look at all of them where not.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from etl.settings import RejectLimit
from tests.conftest import StartService, get, trigger

RECORDS, USERS = 900, 30


def ascending() -> list[int]:
    return list(range(1, RECORDS + 1))


def with_values(*values: tuple[int, int]) -> list[int]:
    """Ascending keys, but these (place, key)."""
    keys = ascending()
    for place, key in values:
        keys[place] = key
    return keys


SHAPES = {
    "none": (ascending(), True),
    "next_to_it": (with_values((400, 400)), True),
    "low_and_late": (with_values((700, 17)), True),
    "high_and_early": (with_values((20, 880)), True),
    "twice_in_one_place": (with_values((700, 17), (702, 17)), True),
    "at_both_ends": (with_values((0, 2**63 - 1), (899, 2**63 - 1)), False),
    "out_of_place_alone": (with_values((700, -5)), True),
    "shuffled": (random.Random(1).sample(ascending(), RECORDS), False),
    "shuffled_and_repeated": (
        [random.Random(2).randint(1, RECORDS) for _ in range(RECORDS)],
        False,
    ),
    "descending": (ascending()[::-1], False),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strangers", [(), (16, 399, 700, 879)])
@pytest.mark.parametrize("odd", [(), (18, 401, 699)])
async def test_repeated_keys(
    start_service: StartService,
    data_dir: Path,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    strangers: tuple[int, ...],
    odd: tuple[int, ...],
) -> None:
    """The first record stays, of those whose user is known. Good ones that are odd go
    another way, so that not all of their block is loaded by one statement.
    """
    monkeypatch.setattr("etl.phases.block_bytes", lambda streams: 128)
    monkeypatch.setattr("etl.load.WATCHED_BYTES", 0)
    keys, tells = SHAPES[shape]
    users = [
        9999 if place in strangers else place % USERS + 1 for place in range(RECORDS)
    ]
    (data_dir / "users.csv").write_text(
        "user_id,name,email,signup_date\n"
        + "".join(f"{number},N,e,\n" for number in range(1, USERS + 1))
    )
    (data_dir / "user_experiments.csv").write_text(
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"
        + "".join(
            f"{key},{user},{'1;2 ' if place in odd else '1'},1\n"
            for place, (key, user) in enumerate(zip(keys, users, strict=True))
        )
    )
    client = await start_service(max_rejects=RejectLimit.parse("100%"))
    for _ in range(2):  # the second run begins with doubts of the first
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
        looks = [step["file"] for step in answer["run"]["steps"]]
        assert looks.count("build/010_activity.sql") == 1 or not tells
        rows = await connection.execute(
            "select sum(total_rows), count(*) > 2 from etl.key_parts"
            " where source = 'user_experiments'"
        )
        total, several = await rows.fetchone() or (0, False)
        assert several
        assert total >= RECORDS - len(wanted)


async def test_a_column_that_the_table_lacks(
    start_service: StartService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a file goes to a table of its own, where its keys are counted too."""
    monkeypatch.setattr("etl.phases.block_bytes", lambda streams: 128)
    monkeypatch.setattr("etl.load.WATCHED_BYTES", 0)
    keys, _ = SHAPES["low_and_late"]
    (data_dir / "user_experiments.csv").write_text(
        "experiment_id,note,user_id,experiment_compound_ids,experiment_run_time\n"
        + "".join(f"{key},any,1,1,1\n" for key in keys)
    )
    client = await start_service()
    answer = await trigger(client)
    found = await get(client, f"/runs/{answer['run']['id']}/rejects")
    assert [(one["line"], one["reason"]) for one in found] == [(702, "duplicate_key")]
    looks = [step["file"] for step in answer["run"]["steps"]]
    assert looks.count("build/010_activity.sql") == 1
