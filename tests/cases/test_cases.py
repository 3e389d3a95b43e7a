"""Each folder here is a question: tiny CSV files and, in expected.json, the answer.

``features`` holds the rows with the columns that the question is about, ``rejects``
what was left out: file, line, column, value and reason. ``status`` and ``result`` (a
regular expression) stand for a run that must fail, ``warnings`` for what is said of
one, and ``max_rejects`` for the setting, 100% without. A file that a folder lacks is a
header alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from etl.settings import RejectLimit
from tests.support.client import Client, StartService, features, get, trigger

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/expected.json"))

HEADERS = {
    "users.csv": "user_id,name,email,signup_date\n",
    "user_experiments.csv": (
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"
    ),
    "compounds.csv": "compound_id,compound_name,compound_structure\n",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case(case: Path, start_service: StartService, data_dir: Path) -> None:
    for name, header in HEADERS.items():
        given = case / name
        content = given.read_bytes() if given.exists() else header.encode()
        (data_dir / name).write_bytes(content)
    expected = json.loads((case / "expected.json").read_text())
    client = await start_service(
        max_rejects=RejectLimit.parse(expected.get("max_rejects", "100%"))
    )
    answer = await trigger(client, expected.get("status", 200))
    if "result" in expected:
        assert re.search(expected["result"], answer["result"]), answer["result"]
    rows = await features(client)
    assert len(rows) == len(expected["features"])
    for row, wanted in zip(rows, expected["features"], strict=True):
        assert {name: row[name] for name in wanted} == wanted
    if "warnings" in expected:
        warnings = answer["run"]["warnings"]
        for warning, form in zip(warnings, expected["warnings"], strict=True):
            assert re.search(form, warning), warning
    if "status" not in expected:
        found = await get(client, f"/runs/{answer['run']['id']}/rejects")
        keys = ("file", "line", "column", "value", "reason")
        entries = sorted(([entry[key] for key in keys] for entry in found), key=str)
        assert entries == sorted(expected.get("rejects", []), key=str)
        for file in answer["run"]["files"]:
            lines = {line for name, line, *_ in entries if name == file["file"]}
            assert file["rejected"] == len(lines)


async def test_shipped_data(client: Client) -> None:
    """The values that the challenge publishes, in the table's column order."""
    await trigger(client)
    rows = await features(client)
    names = "Alice Bob Carol Dave Eve Frank Grace Heidi Ivan Judy".split()
    favourites = [2, 1, 2, 1, 2, 1, 2, 1, 2, 1]
    compounds = {1: "Compound A", 2: "Compound B"}
    assert [list(row.items()) for row in rows] == [
        [
            ("user_id", number),
            ("name", name),
            ("email", f"{name.lower()}@example.com"),
            ("signup_date", f"2023-{number:02}-01"),
            ("total_experiments", 2 if name == "Alice" else 1),
            ("avg_experiments", 1.1),
            ("experiments_pct", (2 if name == "Alice" else 1) / 11),
            ("most_common_compound_id", favourite),
            ("most_common_compound_name", compounds[favourite]),
        ]
        for number, (name, favourite) in enumerate(
            zip(names, favourites, strict=True), start=1
        )
    ]


@pytest.mark.plain_postgres("its nodes send their rows at the same time")
async def test_rows_are_written_in_the_order_of_their_key(
    start_service: StartService,
    data_dir: Path,
    connection: AsyncConnection,
) -> None:
    """Whatever the order of the file: publish takes twice as long in any other."""
    users = data_dir / "users.csv"
    header, *records = users.read_text().strip().splitlines()
    users.write_text("\n".join([header, *reversed(records)]))
    await trigger(await start_service(build_workers=1))
    rows = await connection.execute("select user_id from features order by ctid")
    assert [key for (key,) in await rows.fetchall()] == list(range(1, 11))
