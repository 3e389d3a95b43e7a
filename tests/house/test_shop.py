"""The README of the second pipeline, run as it stands there, and its rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from etl.settings import PROJECT, RejectLimit
from tests.support.client import StartService, features, get, trigger
from tests.support.processes import SECONDS, environment, serving

SHOP = PROJECT / "examples" / "shop"
README = (SHOP / "README.md").read_text()
ADDRESS = "http://127.0.0.1:5000"

#: Each command of the README with what follows it: the language and the text.
EXAMPLES = re.findall(r"^```sh\n(.*?)^```\n\n```(\w+)\n(.*?)^```$", README, re.M | re.S)


def bash(text: str, **settings: object) -> str:
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=environment(**settings),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return "\n".join(line.rstrip() for line in ended.stdout.strip("\n").splitlines())


@pytest.fixture(scope="module")
def printed(state_folder: Path) -> list[str]:
    """What each command prints, in their order, beside a server of the shop."""
    assert "`./run.sh examples/shop` serves it" in README
    state = state_folder / "shop"
    with serving(arguments=[str(SHOP)], STATE_DIR=state) as (_, address):
        commands = [
            re.sub(r"^curl ", "curl -s --noproxy '*' ", command)
            for command, _, _ in EXAMPLES
        ]
        return [
            bash(command.replace(ADDRESS, address), STATE_DIR=state)
            for command in commands
        ]


def test_the_readme_is_short_and_has_examples() -> None:
    assert len(README.splitlines()) < 60
    assert [language for _, language, _ in EXAMPLES] == ["text", "text", "json"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_readme_shows_what_its_commands_print(
    printed: list[str], number: int
) -> None:
    assert printed[number].endswith(EXAMPLES[number][2].strip("\n"))


def test_the_readme_names_files_that_are_there() -> None:
    named = re.findall(r"`(sql/[^`]+\.sql)`", README)
    assert len(named) > 3
    assert [name for name in named if not (SHOP / name).is_file()] == []


HEADERS = {
    "products.csv": "product_id,product_name,category",
    "orders.csv": "order_id,customer,ordered_on,shipped_on",
    "order_lines.csv": "order_id,line_no,product_id,quantity,unit_price",
}

#: Per rule the file, the record in it that is rejected, and the reason.
RULES = {
    "a product twice": ("products.csv", "1,Second,Kitchen", "duplicate_key"),
    "an order twice": ("orders.csv", "7,Ben,2026-03-01,", "duplicate_key"),
    "sent before it was ordered": (
        *("orders.csv", "8,Ben,2026-03-02,2026-03-01", "shipped_too_early"),
    ),
    "the same line of an order": ("order_lines.csv", "7,1,1,9,9.99", "duplicate_key"),
    "a line of no order": ("order_lines.csv", "9,1,1,9,9.99", "unknown_order"),
    "a line of no product": ("order_lines.csv", "7,3,9,9,9.99", "unknown_product"),
}


@pytest.mark.parametrize("rule", RULES)
async def test_a_record_that_breaks_a_rule_is_rejected(
    start_service: StartService, tmp_path: Path, empty_database: str, rule: str
) -> None:
    file, record, reason = RULES[rule]
    records = {
        "products.csv": ["1,Cup,Kitchen", "2,Pot,Kitchen"],
        "orders.csv": ["7,Ada,2026-03-01,2026-03-01", "6,Ada,2026-03-02,"],
        "order_lines.csv": ["7,1,1,2,1.50", "7,2,2,1,9.00", "6,1,1,1,1.00"],
    }
    records[file].append(record)
    for name, lines in records.items():
        (tmp_path / name).write_text("\n".join([HEADERS[name], *lines, ""]))
    client = await start_service(
        sql_dir=SHOP / "sql",
        data_dir=tmp_path,
        database=empty_database,
        max_rejects=RejectLimit.parse("1"),
    )
    run = (await trigger(client))["run"]
    (entry,) = await get(client, f"/runs/{run['id']}/rejects")
    assert (entry["file"], entry["reason"]) == (file, reason)
    assert entry["line"] == len(records[file]) + 1
    rows = await features(client)
    assert [row["revenue"] for row in rows] == [4.0, 9.0]
    assert [row["rank_in_category"] for row in rows] == [2, 1]
    assert [row["total_orders"] for row in rows] == [2, 1]


async def test_a_line_of_a_rejected_order_names_the_record_of_the_order(
    start_service: StartService, empty_database: str
) -> None:
    client = await start_service(
        sql_dir=SHOP / "sql", data_dir=SHOP / "data", database=empty_database
    )
    run = (await trigger(client))["run"]
    entries = await get(client, f"/runs/{run['id']}/rejects")
    assert [entry["reason"] for entry in entries] == [
        *("duplicate_key", "shipped_too_early", "rejected_order")
    ]
    assert entries[-1]["message"] == (
        "its order is orders.csv, line 6, which was rejected: order 5005 was made on "
        "2026-03-10"
    )


@pytest.mark.parametrize(
    ("file", "check", "left"),
    [
        ("products.csv", "check/010_products_are_not_all_gone.sql", []),
        ("order_lines.csv", "check/060_order_lines_are_not_all_gone.sql", [0]),
    ],
)
async def test_a_file_without_records_leaves_the_table(
    start_service: StartService,
    tmp_path: Path,
    empty_database: str,
    file: str,
    check: str,
    left: list[int],
) -> None:
    """And a product without a category is a warning."""
    records = ("1,Cup,", "7,Ada,2026-03-01,", "7,1,1,2,1.50")
    for (name, header), record in zip(HEADERS.items(), records, strict=True):
        (tmp_path / name).write_text(f"{header}\n{record}\n")
    client = await start_service(
        sql_dir=SHOP / "sql",
        data_dir=tmp_path,
        database=empty_database,
        max_rejects=RejectLimit.parse("1"),
    )
    warned = await trigger(client)
    (warning,) = warned["run"]["warnings"]
    assert warning.startswith("check/050_products_have_a_category.sql")
    (tmp_path / file).write_text(f"{HEADERS[file]}\n")
    failed = await trigger(client, 422)
    assert failed["result"].startswith(check)
    assert [row["revenue"] for row in await features(client)] == [3.0]
    await trigger(client, allow_empty="true")
    assert [row["revenue"] for row in await features(client)] == left
