"""The rejected records of a file as a CSV file: corrected, it can be loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.settings import RejectLimit
from tests.support.client import Client, StartService, features, get, trigger

ALL = RejectLimit.parse("100%")

USERS = "user_id,name,email,signup_date\n"

#: Records as files have them, those that are bad with what corrects each.
GOOD = ('1;"Ann ""A""";a@example.com;2023-01-01', "8;Eve;;2023-01-08")
BAD = {
    '2;"Bob\r\nthe ""Second""; ""B""";b@example.com;soon': ("soon", "2023-01-02"),
    "x;=1+1;c@example.com;never": ("x;=1+1;c@example.com;never", "3;C;;2023-01-03"),
    '4;D "the" E;d@example.com;2023-01-04': ('D "the" E', '"D ""the"" E"'),
    "5;\tFranç\\tois;2023-01-05": ("ois;", "ois;;"),
    "1;Ann;again@example.com;2023-01-06": ("1;", "6;"),
    "7;Z;z\\n@example.com;2023-13-01": ("-13-", "-12-"),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff", "sep=;"])
async def test_corrected_records_are_loaded(
    start_service: StartService, data_dir: Path, end: str, before: str
) -> None:
    head = before + (end if before == "sep=;" else "")
    header = f'{head}User ID;"name";email;signup_date{end}'
    bad = [record.replace("\r\n", end) for record in BAD]
    records = [GOOD[0], *bad, GOOD[1]]
    users = data_dir / "users.csv"
    users.write_bytes((header + end.join(records)).encode())  # the last has no line end
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    path = f"/runs/{answer['run']['id']}/rejects/users.csv"
    async with client.get(path) as response:
        found = (await response.read()).decode()
        saved = response.headers["Content-Disposition"]
        assert response.content_type == "text/csv"
    assert saved.startswith('attachment; filename="users.rejects.csv"')
    assert found == header + "".join(record + end for record in bad)

    for wrong, right in BAD.values():
        assert found.count(wrong) == 1
        found = found.replace(wrong, right)
    corrected = found.removeprefix(header)
    for text in (found, header + f"{GOOD[0]}{end}{corrected}{GOOD[1]}"):
        users.write_bytes(text.encode())
        run = (await trigger(client))["run"]
        assert run["files"][-1]["rejected"] == 0
    assert [(row["user_id"], row["name"]) for row in await features(client)] == [
        (1, 'Ann "A"'),
        (2, f'Bob{end}the "Second"; "B"'),
        (3, "C"),
        (4, 'D "the" E'),
        (5, "Franç\\tois"),
        (6, "Ann"),
        (7, "Z"),
        (8, "Eve"),
    ]


async def records_of(client: Client, run: int, file: str, status: int = 200) -> str:
    async with client.get(f"/runs/{run}/rejects/{file}") as response:
        assert response.status == status
        return await response.text()


async def test_runs_that_keep_a_file_have_its_rejects_too(
    start_service: StartService, data_dir: Path
) -> None:
    """Of a file that is kept or appended to; and what follows from another record."""
    users, experiments = data_dir / "users.csv", data_dir / "user_experiments.csv"
    header, first, *others = users.read_text().lstrip().splitlines(True)
    wrong = first.replace("2023", "in 2023")
    users.write_text("".join([header, wrong, *others]))
    client = await start_service(max_rejects=ALL)
    for run in (1, 2):
        await trigger(client)
        assert await records_of(client, run, "users.csv") == header + wrong
        none = await records_of(client, run, "compounds.csv")
        assert [none] == (data_dir / "compounds.csv").read_text().splitlines(True)[:1]
        follow = await records_of(client, run, "user_experiments.csv")
        assert set(follow.splitlines()) < set(experiments.read_text().splitlines())
        assert len(follow.splitlines()) == 3
    with users.open("a") as file:
        file.write("soon,,,\n")
    await trigger(client)
    assert await records_of(client, 3, "users.csv") == header + wrong + "soon,,,\n"


async def test_files_that_a_run_does_not_have(client: Client, data_dir: Path) -> None:
    await trigger(client)
    assert "no header of a file 'more.csv'" in await records_of(
        client, 1, "more.csv", 404
    )
    await records_of(client, 2, "users.csv", 404)
    (data_dir / "users.csv").unlink()
    await trigger(client, 422)
    await records_of(client, 2, "users.csv", 404)
    await records_of(client, 1, "users.csv?limit=1", 400)


async def test_many_records(start_service: StartService, data_dir: Path) -> None:
    """More than are sent at once, and those of a file with too many rejects."""
    bad = "".join(f"{'x' * 90},{number},,\n" for number in range(5000))
    (data_dir / "users.csv").write_text(USERS + bad)
    client = await start_service()
    answer = await trigger(client, 422)
    assert await records_of(client, 1, "users.csv") == USERS + bad
    assert (await get(client, "/runs/1"))["files"][-1]["header"] == USERS
    assert answer["run"]["files"][-1]["rejected"] == 5000
