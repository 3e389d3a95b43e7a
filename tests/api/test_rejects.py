"""Records that a run leaves out: reported one by one, few enough, and never more."""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from yarl import URL

from etl.run import load
from etl.settings import RejectLimit
from tests.support.client import Client, StartService, features, get, trigger

ALL, FEW = RejectLimit.parse("100%"), RejectLimit.parse("1")

USERS = "user_id,name,email,signup_date\n"
EXPERIMENTS = "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"


async def rejects(client: Client, answer: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = await get(
        client, f"/runs/{answer['run']['id']}/rejects"
    )
    return entries


@pytest.fixture
def broken(data_dir: Path) -> Path:
    """The shipped data with a typo, a quote, and a record of two errors."""
    experiments = data_dir / "user_experiments.csv"
    text = experiments.read_text()
    text = text.replace("3,\t2,\t1;3,\t20", "3,\t2,\t1:3,\t20")
    experiments.write_text(text.replace("5,\t4,", 'x,\t4"5,').replace("6,\t5", "y,\tz"))
    return data_dir


async def test_an_entry_says_where_and_why(
    start_service: StartService, broken: Path
) -> None:
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    lines = (broken / "user_experiments.csv").read_text().splitlines()
    entries = await rejects(client, answer)
    assert entries == [
        {
            "file": "user_experiments.csv",
            "line": 4,
            "column": "experiment_compound_ids",
            "value": "1:3",
            "reason": "invalid_value",
            "message": '"1:3" is not the number of a compound',
            "record": lines[3],
        },
        {
            "file": "user_experiments.csv",
            "line": 6,
            "column": None,
            "value": None,
            "reason": "bad_quote",
            "message": "a quote inside a value: put quotes around the whole value, "
            "and double those in it",
            "record": lines[5],
        },
        *(
            {
                "file": "user_experiments.csv",
                "line": 7,
                "column": column,
                "value": value,
                "reason": "invalid_value",
                "message": f'"{value}" is not a whole number',
                "record": lines[6],
            }
            for column, value in (("experiment_id", "y"), ("user_id", "z"))
        ),
    ]
    (loaded,) = [
        file for file in answer["run"]["files"] if file["file"] == entries[0]["file"]
    ]
    assert (loaded["records"], loaded["rejected"]) == (11, 3)
    rows = {row["user_id"]: row["total_experiments"] for row in await features(client)}
    assert rows == {**dict.fromkeys(range(1, 11), 1), 1: 2, 2: 0, 4: 0, 5: 0}


async def test_pages_csv_and_wrong_questions(
    start_service: StartService, broken: Path
) -> None:
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    entries = await rejects(client, answer)
    path = f"/runs/{answer['run']['id']}/rejects"
    async with client.get(path, params={"format": "csv"}) as response:
        assert response.content_type == "text/csv"
        read = list(csv.DictReader(io.StringIO(await response.text())))
        name = f'attachment; filename="rejects-{answer["run"]["id"]}.csv"'
        assert response.headers["Content-Disposition"] == name
        plain = await response.read()
    assert [
        {key: "" if value is None else str(value) for key, value in entry.items()}
        for entry in entries
    ] == read
    async with client.get(path, params={"format": "csv", "bom": "true"}) as response:
        assert await response.read() == codecs.BOM_UTF8 + plain
    paged = []
    following: str | None = f"{path}?limit=3"
    while following:
        async with client.get(following) as response:
            paged += await response.json()
            link = response.links.get("next")
            following = str(URL(link["url"]).relative()) if link else None
    assert paged == entries
    for query, said in (
        ("format=xml", "format is one of json, csv"),
        ("bom=true", "bom is for format=csv"),
        ("format=csv&bom=1", "bom is true or false"),
        ("limit=0", "limit is a whole number from 1"),
        (f"limit={'9' * 5000}", "limit is a whole number from 1"),
        ("after=x", "after is what the Link header"),
        ("after=%00:1:1", "after is what the Link header"),
        (f"after=x:1:{'9' * 19}", "after is what the Link header"),
        ("file=users", "file is the name of a CSV file, not 'users'"),
        ("file=%00.csv", "file is the name of a CSV file"),
        ("reason=", "reason is a word, as in the list of rejects, not ''"),
        ("reason=two words", "reason is a word, as in the list of rejects"),
        ("reason=a&reason=b", "parameter 'reason' appears more than once"),
        (
            "page=2",
            "unknown parameter 'page'; allowed: format, bom, limit, after, file,"
            " reason",
        ),
    ):
        async with client.get(f"{path}?{query}") as response:
            assert response.status == 400
            assert said in (await response.json(content_type=None))["detail"]
    for number in ("99", "x"):
        async with client.get(f"/runs/{number}/rejects") as response:
            assert response.status == 404
    clean = await trigger(client, dry_run="true")
    assert await rejects(client, clean) == entries


def one_bad_user(data_dir: Path, *more: str) -> None:
    """Users 101 to 110, one of them with a bad date, and 15 experiments of that one
    among 20; ``more`` lines of experiments follow.
    """
    users = [f"{key},N,e,{'soon' if key == 102 else ''}" for key in range(101, 111)]
    users[1] = f"000{users[1]}"
    experiments = [f"{n},{102 if n <= 15 else 101},1,1" for n in range(1, 21)]
    (data_dir / "users.csv").write_text(USERS + "\n".join(users))
    (data_dir / "user_experiments.csv").write_text(
        EXPERIMENTS + "\n".join([*experiments, *more])
    )


async def test_causes_come_before_consequences(
    start_service: StartService, data_dir: Path
) -> None:
    one_bad_user(data_dir, "21,500,1,1", "22,101,x,1")
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    entries = await rejects(client, answer)
    message = '"soon" is not a date written YYYY-MM-DD'
    assert [(one["file"], one["line"], one["reason"]) for one in entries] == [
        ("user_experiments.csv", 22, "unknown_user"),
        ("user_experiments.csv", 23, "invalid_value"),
        ("users.csv", 3, "invalid_value"),
        *(("user_experiments.csv", line, "rejected_user") for line in range(2, 17)),
    ]
    assert entries[2]["message"] == message
    assert {one["message"] for one in entries[3:]} == {
        f"its user is users.csv, line 3, which was rejected: {message}"
    }
    counts = {file["file"]: file for file in answer["run"]["files"]}
    assert counts["compounds.csv"]["rejected_by_reason"] == {}
    assert counts["users.csv"]["rejected_by_reason"] == {"invalid_value": 1}
    assert counts["user_experiments.csv"]["rejected"] == 17
    assert counts["user_experiments.csv"]["rejected_by_reason"] == {
        **{"unknown_user": 1, "invalid_value": 1, "rejected_user": 15}
    }
    path = f"/runs/{answer['run']['id']}/rejects"
    for query, wanted in (
        ("", entries),
        ("&reason=rejected_user", entries[3:]),
        ("&reason=invalid_value", entries[1:3]),
        ("&reason=no_such-reason", []),
        ("&file=users.csv", entries[2:3]),
        ("&file=user_experiments.csv", [*entries[:2], *entries[3:]]),
        ("&file=user_experiments.csv&reason=invalid_value", entries[1:2]),
        ("&file=others.csv", []),
    ):
        paged = []
        following: str | None = f"{path}?limit=2{query}"
        while following:
            async with client.get(following) as response:
                assert response.status == 200
                paged += await response.json()
                link = response.links.get("next")
                following = str(URL(link["url"]).relative()) if link else None
        assert paged == wanted


async def test_a_run_that_fails_for_consequences_leads_with_their_cause(
    client: Client, data_dir: Path
) -> None:
    one_bad_user(data_dir)
    failed = await trigger(client, 422)
    assert failed["result"] == (
        'users.csv, line 3, column signup_date: "soon" is not a date written '
        "YYYY-MM-DD; therefore 15 of 20 records of user_experiments.csv are rejected, "
        "more than MAX_REJECTS=10% allows"
    )
    counts = {file["file"]: file for file in failed["run"]["files"]}
    assert counts["user_experiments.csv"]["rejected_by_reason"] == {"rejected_user": 15}
    assert counts["users.csv"]["rejected_by_reason"] == {"invalid_value": 1}
    (first, *_) = await rejects(client, failed)
    assert (first["file"], first["line"]) == ("users.csv", 3)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", ""),
        (
            ",Ben,,\n",
            ": it may be line 2, which was rejected without a valid user_id",
        ),
        (
            ",Ben,,\nx,Cid,,\n",
            ": it may be one of 2 that were rejected without a valid user_id, the "
            "first of them in line 2",
        ),
    ],
)
async def test_an_unknown_user_may_be_one_without_a_valid_key(
    start_service: StartService, data_dir: Path, bad: str, said: str
) -> None:
    users = data_dir / "users.csv"
    users.write_text(f"user_id,name,email,signup_date\n{bad}1,Ann,,\n")
    (data_dir / "user_experiments.csv").write_text(
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n1,7,1,1\n"
    )
    client = await start_service(max_rejects=ALL)
    first, *_ = await rejects(client, await trigger(client))
    assert first["reason"] == "unknown_user"
    assert first["message"] == f"no record of users.csv with user_id 7 was taken{said}"


async def test_a_file_with_too_many_errors_of_its_own_leads_with_them(
    client: Client, data_dir: Path
) -> None:
    one_bad_user(data_dir, *(f"{number},500,1,1" for number in range(100, 400)))
    failed = await trigger(client, 422)
    assert failed["result"].startswith(
        "user_experiments.csv: 315 of 320 records are rejected, "
        "more than MAX_REJECTS=10% allows: line 22, column user_id: no record of"
    )
    counts = {file["file"]: file for file in failed["run"]["files"]}
    assert counts["user_experiments.csv"]["rejected_by_reason"] == {
        **{"rejected_user": 15, "unknown_user": 300}
    }


async def test_a_record_with_two_reasons_counts_for_each(
    client: Client, data_dir: Path
) -> None:
    (data_dir / "users.csv").write_text(USERS + ",a,,soon\n,b,,later\n")
    failed = await trigger(client, 422)
    (loaded,) = [file for file in failed["run"]["files"] if file["file"] == "users.csv"]
    assert (loaded["records"], loaded["rejected"]) == (2, 2)
    assert loaded["rejected_by_reason"] == {"invalid_value": 2, "missing_key": 2}
    assert loaded == next(
        file
        for file in (await get(client, f"/runs/{failed['run']['id']}"))["files"]
        if file["file"] == "users.csv"
    )


async def test_what_follows_from_a_consequence_names_the_first_cause(
    start_service: StartService, data_dir: Path, sql_dir: Path
) -> None:
    """Samples of experiments of users: a pipeline of three files in a row."""
    (sql_dir / "schema" / "004_samples.sql").write_text(
        "create table staging.samples ("
        " code text not null, experiment_id bigint not null);"
    )
    (sql_dir / "clean" / "990_experiments_were_not_rejected.sql").write_text(
        """-- rejects:    samples.experiment_id
        -- reason:     rejected_experiment
        -- runs_after: build/030_features.sql
        select
            samples.experiment_id,
            format('its experiment was rejected: %s', rejected.message) as message,
            rejected.cause_file,
            rejected.cause_line
        from staging.samples as samples
        inner join etl.rejected_records('user_experiments.csv') as rejected
            on samples.experiment_id = (rejected.keys ->> 'experiment_id')::bigint;
        """.replace("        --", "--")
    )
    one_bad_user(data_dir, *(f"{number},101,1,1" for number in range(100, 400)))
    (data_dir / "samples.csv").write_text("code,experiment_id\na,1\nb,16\nc,2\n")
    client = await start_service(sql_dir=sql_dir)
    failed = await trigger(client, 422)
    assert failed["result"] == (
        'users.csv, line 3, column signup_date: "soon" is not a date written '
        "YYYY-MM-DD; therefore 2 of 3 records of samples.csv are rejected, "
        "more than MAX_REJECTS=10% allows"
    )
    last = next(one for one in await rejects(client, failed) if one["line"] == 2)
    assert last["message"] == (
        "its experiment was rejected: its user is users.csv, line 3, which was "
        'rejected: "soon" is not a date written YYYY-MM-DD'
    )


@pytest.mark.parametrize(("limit", "status"), [(ALL, 200), (FEW, 422)])
async def test_a_rule_may_return_another_type_than_its_column(
    start_service: StartService, sql_dir: Path, limit: RejectLimit, status: int
) -> None:
    (sql_dir / "clean" / "060_early.sql").write_text(
        """-- rejects: users.signup_date
        -- reason:  early
        -- reads:   staging.users
        select
            users.signup_date::timestamp as signup_date,
            'early' as message
        from staging.users as users
        where users.user_id in (1, 2);
        """.replace("        --", "--")
    )
    client = await start_service(sql_dir=sql_dir, max_rejects=limit)
    answer = await trigger(client, status)
    found = [one for one in await rejects(client, answer) if one["reason"] == "early"]
    assert [one["line"] for one in found] == [3, 4]
    if status == 422:
        assert (
            "2 of 10 records are rejected, more than MAX_REJECTS=1" in answer["result"]
        )


async def test_duplicates_are_nobodys_cause_whatever_the_reason_is_called(
    start_service: StartService, data_dir: Path, sql_dir: Path
) -> None:
    file = sql_dir / "clean" / "010_user_ids_are_unique.sql"
    file.write_text(file.read_text().replace("duplicate_key", "twice"))
    (sql_dir / "clean" / "025_users_were_not_rejected.sql").write_text(
        """-- rejects: user_experiments.user_id
        -- reason:  rejected_user
        select
            (rejected.keys ->> 'user_id')::bigint as user_id,
            'its user was rejected' as message,
            rejected.cause_file,
            rejected.cause_line
        from etl.rejected_records('users.csv') as rejected;
        """.replace("        --", "--")
    )
    with (data_dir / "users.csv").open("a") as users:
        users.write("1,Twin,,\n")
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)
    found = await rejects(client, await trigger(client, full="true"))
    assert [one["reason"] for one in found] == ["twice"]


async def test_a_duplicate_has_a_valid_key(
    start_service: StartService, data_dir: Path
) -> None:
    """It is not what the record of an unknown user may be, in whichever order the rules
    ran: after a run that rejected duplicates, their rule runs first.
    """
    with (data_dir / "users.csv").open("a") as users:
        users.write("1,Twin,,\n,Keyless,,\n")
    client = await start_service(max_rejects=ALL)
    await trigger(client)
    with (data_dir / "user_experiments.csv").open("a") as experiments:
        experiments.write("9001,77,1;2,5\n")
    for full in ("false", "true"):
        found = await rejects(client, await trigger(client, full=full))
        (unknown,) = [one for one in found if one["reason"] == "unknown_user"]
        assert unknown["message"] == (
            "no record of users.csv with user_id 77 was taken: it may be line 14, "
            "which was rejected without a valid user_id"
        )


async def test_the_first_in_the_file_wins_whatever_the_streams(
    start_service: StartService, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several blocks, some of them with irregular records, some of them equal."""
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda streams: 1 << 14)
    source = random.Random(7)
    filler = "x" * 90
    keys = [source.randrange(500) for _ in range(1500)]
    records = [
        f"{source.choice(['', '0', '+'])}{key},{filler}{source.randrange(2)},,"
        for key in keys
    ]
    (data_dir / "users.csv").write_text(USERS + "\n".join(records))
    (data_dir / "user_experiments.csv").write_text(EXPERIMENTS)
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    expected = [
        (place + 2, str(key), f"line {first[key] + 2} has it already", record)
        for place, (key, record) in enumerate(zip(keys, records, strict=True))
        if first[key] != place
    ]
    for workers in (1, 5):
        client = await start_service(max_rejects=ALL, load_workers=workers)
        answer = await trigger(client)
        found = [
            (entry["line"], entry["value"], entry["message"], entry["record"])
            for entry in await rejects(client, answer)
        ]
        assert found == expected
        names = {row["user_id"]: row["name"] for row in await features(client)}
        assert names == {
            key: records[place].split(",")[1] for key, place in first.items()
        }


async def test_a_file_that_is_all_bad_fails_before_its_end(
    client: Client, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda streams: 1 << 16)
    records = 30_000
    (data_dir / "users.csv").write_text(USERS + ("x,,," + "-" * 60 + "\n") * records)
    failed = await trigger(client, 422)
    read = failed["run"]["files"][-1]
    assert 0 < read["records"] < records
    assert failed["result"].startswith(
        f"users.csv: {read['rejected']} of the first {read['records']} records are "
        'rejected, more than MAX_REJECTS=10% allows: line 2, column user_id: "x" is not'
    )
    entries = await rejects(client, failed)
    assert len({entry["line"] for entry in entries}) == read["rejected"]


async def test_lists_are_matched_to_the_last_byte(
    start_service: StartService, data_dir: Path
) -> None:
    """A tab between two digits, and too many digits, go the slow path; a good record
    after a bad one with the same key is not the one that is rejected.
    """
    experiments = data_dir / "user_experiments.csv"
    text = experiments.read_text().replace("\t1;3,", "\t1\t3,", 1)
    text = text.replace("\t2;3,", f"\t{'9' * 19},", 1) + "3,\t2,\t1,\t5\n"
    experiments.write_text(text)
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    assert [entry["value"] for entry in await rejects(client, answer)] == [
        *("9" * 19, "1\t3")
    ]
    assert [file["records"] for file in answer["run"]["files"]] == [3, 12, 10]
    assert sum(row["total_experiments"] for row in await features(client)) == 10


async def test_rules_that_rejected_something_run_first_in_the_next_run(
    start_service: StartService, data_dir: Path
) -> None:
    client = await start_service(max_rejects=ALL)

    async def steps() -> list[str]:
        run = (await trigger(client))["run"]
        return [step["file"] for step in run["steps"]]

    once = await steps()  # rules that checks verify do not run
    assert "clean/040_experiment_ids_are_unique.sql" not in once
    experiments = data_dir / "user_experiments.csv"
    good = experiments.read_text()
    experiments.write_text(good + "1,\t1,\t1,\t5\n")
    assert (await steps()).count("build/030_features.sql") == 2  # a check failed
    again = await steps()
    assert again.count("build/030_features.sql") == 1
    assert "clean/040_experiment_ids_are_unique.sql" in again
    experiments.write_text(good)
    assert await steps() == again
    assert await steps() == once


@pytest.mark.parametrize(
    "columns",
    [
        ("user_id",),
        ("name",),
        ("name", "user_id"),
        ("email", "name"),  # a null beside a value
        ("signup_date", "user_id", "name"),
    ],
)
async def test_values_of_a_rule_are_found_in_any_spelling(
    start_service: StartService,
    data_dir: Path,
    sql_dir: Path,
    columns: tuple[str, ...],
) -> None:
    (sql_dir / "clean" / "990_nobody_is_called_eve.sql").write_text(
        f"-- rejects: users ({columns[0]})\n-- reason: called_eve\n"
        f"select {', '.join(columns)}, 'is called Eve' as message"
        " from staging.users where name ~ 'Eve'; -- a comment; after it\n-- ;\n"
    )
    (data_dir / "users.csv").write_text(
        'user_id,name,email,signup_date\n0007,Eve,,2024-01-01\n7,"Eve",,2024-01-01\n'
        '1,"Adam, Eve\nand Abel","a ""b""",2024-01-01\n\n2,"Ad","Eve",2024-01-01\n'
    )
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)
    answer = await trigger(client)
    entries = await rejects(client, answer)
    assert [
        (entry["line"], entry["record"][:6])
        for entry in entries
        if entry["file"] == "users.csv"
    ] == [(2, "0007,E"), (3, '7,"Eve'), (4, '1,"Ada')]
    assert [
        (entry["value"], entry["message"])
        for entry in entries
        if entry["reason"] == "rejected_user"
    ] == [
        (user, f"its user is users.csv, line {line}, which was rejected: is called Eve")
        for user, line in (("1", 4), ("1", 4), ("7", 2))
    ]
    assert [row["user_id"] for row in await features(client)] == [2]


async def test_two_keys_of_a_table_in_partitions(
    start_service: StartService, data_dir: Path, sql_dir: Path
) -> None:
    """What one rule has rejected is no duplicate for the next."""
    (sql_dir / "schema" / "004_pairs.sql").write_text(
        "create table staging.pairs (a bigint not null, b bigint not null)"
        " partition by hash (a);"
        "create unlogged table pairs_0 partition of staging.pairs"
        " for values with (modulus 2, remainder 0);"
        "create unlogged table pairs_1 partition of staging.pairs"
        " for values with (modulus 2, remainder 1);"
    )
    for number, column in ((980, "a"), (990, "b")):
        (sql_dir / "clean" / f"{number}_{column}_is_unique.sql").write_text(
            f"-- rejects: pairs.{column}\n-- reason: duplicate_key\n-- keeps: first\n"
            f"select {column} from staging.pairs"
            f" group by {column} having count(*) > 1;"
        )
    pairs = [(1, 1), (1, 1), *((n, n) for n in range(2, 20)), (40, 7), (9, 41), (8, 8)]
    lines = "".join(f"{a},{b}\n" for a, b in pairs)
    (data_dir / "pairs.csv").write_text("a,b\n" + lines)
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)
    answer = await trigger(client)
    found = [
        (entry["line"], entry["column"], entry["message"], entry["record"])
        for entry in await rejects(client, answer)
    ]
    assert found == [
        (3, "a", "line 2 has it already", "1,1"),
        (22, "b", "line 9 has it already", "40,7"),
        (23, "a", "line 11 has it already", "9,41"),
        (24, "a", "line 10 has it already", "8,8"),
    ]
    files = {file["file"]: file for file in answer["run"]["files"]}
    assert files["pairs.csv"]["records"] == 23
    assert files["pairs.csv"]["rejected"] == 4


@pytest.mark.parametrize("keeps", ["", "-- keeps: first\n"])
async def test_values_that_no_row_has_reject_nothing(
    start_service: StartService, sql_dir: Path, keeps: str
) -> None:
    (sql_dir / "clean" / "990_nobody.sql").write_text(
        f"-- rejects: users.user_id\n-- reason: nobody\n{keeps}"
        "select -1 as user_id, 'nobody' as message;"
    )
    answer = await trigger(await start_service(sql_dir=sql_dir))
    steps = {step["file"]: step["rows"] for step in answer["run"]["steps"]}
    assert steps["clean/990_nobody.sql"] == 0


async def test_a_key_of_text_that_a_check_verifies(
    start_service: StartService,
    data_dir: Path,
    sql_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("etl.run.examining.BYTES_WITHOUT_STATISTICS", 0)
    (sql_dir / "schema" / "004_codes.sql").write_text(
        "create table staging.codes (code text not null);"
    )
    (sql_dir / "clean" / "990_codes_are_unique.sql").write_text(
        "-- rejects: codes.code\n-- reason: duplicate_key\n-- keeps: first\n"
        "-- verified_by: check/990_codes_are_unique.sql\n"
        "select code from staging.codes group by code having count(*) > 1;"
    )
    (sql_dir / "check" / "990_codes_are_unique.sql").write_text(
        "select code from staging.codes group by code having count(*) > 1;"
    )
    (data_dir / "codes.csv").write_text("code\na\n b\nb\na\n")
    client = await start_service(sql_dir=sql_dir, max_rejects=ALL)
    entries = await rejects(client, await trigger(client))
    assert [(one["line"], one["value"]) for one in entries] == [(5, "a")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "select 1 as user_id, 2 as number, 'x' as message;",
            "it returns the column number, which staging.users lacks",
        ),
        ("select 1 as user_id;", "column found.message does not exist"),
        ("select 1 as id, 'x' as message;", "column found.user_id does not exist"),
        (
            "select 1 as user_id,\n nothing as message;",
            ', line 4, column 2: column "nothing" does not exist',
        ),
        ("select 1 as user_id; select 2;", ", line 3, column 20: syntax error at or"),
        ("-- select 1;", " holds no statement: remove it, or fill it"),
    ],
)
async def test_a_rule_that_is_wrong(
    start_service: StartService, sql_dir: Path, query: str, said: str
) -> None:
    (sql_dir / "clean" / "990_wrong.sql").write_text(
        f"-- rejects: users.user_id\n-- reason: nobody\n{query}"
    )
    failed = await trigger(await start_service(sql_dir=sql_dir), 500)
    said = said if said[0] in ", " else f": {said}"
    assert failed["result"].startswith(f"clean/990_wrong.sql{said}")


async def test_too_many_duplicates_far_from_the_first(
    client: Client, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the first errors, and only so much of the file is read."""
    monkeypatch.setattr("etl.run.copying.MAX_RECORDS_AT_ONCE", 500)
    records = "".join(f"{number},name,,\n" for number in range(1, 2001))
    (data_dir / "users.csv").write_text(USERS + records + records)
    failed = await trigger(client, 422)
    assert failed["result"] == (
        "users.csv: 2000 of 4000 records are rejected, "
        "more than MAX_REJECTS=10% allows: "
        "line 2002, column user_id: line 2 has it already; "
        "line 2003, column user_id: line 3 has it already; "
        "line 2004, column user_id: line 4 has it already"
    )
    assert len(await rejects(client, failed)) < 2000


async def test_an_empty_quoted_name_beside_a_tab(
    start_service: StartService, data_dir: Path
) -> None:
    (data_dir / "users.csv").write_text(
        USERS + '1,\t"",a,\n1,\t"",a,\n1,""\t,a,\n1,"\t",a,\n'
    )
    (data_dir / "user_experiments.csv").write_text(EXPERIMENTS)
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    assert [entry["line"] for entry in await rejects(client, answer)] == [3, 4, 5]


async def test_many_unknown_columns(
    start_service: StartService, data_dir: Path
) -> None:
    users = data_dir / "users.csv"
    lines = users.read_text().strip().splitlines()
    for number, status in ((900, 200), (1700, 422)):
        more = f",{'9' * 20}" * number
        users.write_text("\n".join(line + more for line in lines))
        client = await start_service()
        answer = await trigger(client, status)
    assert answer["result"].startswith("users.csv: has 1704 columns, and 1000 are the")


@pytest.mark.plain_postgres("a check constraint of a shard fails with XX000")
async def test_a_constraint_of_staging_is_the_data_s_fault(
    client: Client, connection: AsyncConnection
) -> None:
    await connection.execute(
        "alter table staging.users"
        " add constraint early check (signup_date < '2023-06-01')"
    )
    failed = await trigger(client, 422)
    assert failed["result"].startswith("users.csv, in or after line 3: new row for")


async def test_messages_are_short_and_on_one_line(
    start_service: StartService, data_dir: Path
) -> None:
    (data_dir / "users.csv").write_text(
        USERS + '1,a,,"20\n20"\n' + "9" * 5000 + ",b,,\n"
    )
    client = await start_service()
    failed = await trigger(client, 422)
    assert "\n" not in failed["result"]
    assert len(failed["result"]) < 1000
    assert failed["result"].startswith("users.csv: 2 of 2 records are rejected")


async def test_rejects_go_with_their_run(
    start_service: StartService, broken: Path, connection: AsyncConnection
) -> None:
    client = await start_service(max_rejects=ALL, keep_runs=1)
    for _ in range(3):
        await trigger(client)
    async with asyncio.timeout(20):
        while True:
            found = await connection.execute("select distinct run_id from etl.rejects")
            if await found.fetchall() == [(3,)]:
                break
            await asyncio.sleep(0.02)


async def test_blocks_that_copy_refuses_go_the_slow_path(
    start_service: StartService, data_dir: Path
) -> None:
    """A leap day that is none looks plain; all else in its block arrives."""
    users = data_dir / "users.csv"
    text = users.read_text().replace("2023-05-01", "99999999999999999999")
    users.write_text(text.replace("2023-06-01", "2023-02-29"))
    client = await start_service(max_rejects=ALL)
    answer = await trigger(client)
    entries = await rejects(client, answer)
    assert [(entry["line"], entry["reason"]) for entry in entries] == [
        *((7, "invalid_value"), (8, "invalid_value")),
        *((7, "rejected_user"), (8, "rejected_user")),
    ]
    assert len(await features(client)) == 8


async def test_unknown_columns_go_to_spare_ones(
    start_service: StartService, data_dir: Path, connection: AsyncConnection
) -> None:
    """As many as a file needed at once, however many runs there are."""
    users = data_dir / "users.csv"
    lines = users.read_text().strip().splitlines()
    client = await start_service()
    shipped = (await trigger(client), await features(client))[1]
    users.write_text("\n".join(f"{line},{n}" for n, line in enumerate(lines)))
    for _ in range(3):
        answer = await trigger(client)
        assert answer["run"]["warnings"] == [
            "users.csv: staging.users lacks the column '0': skipped"
        ]
        assert await features(client) == shipped
    users.write_text("\n".join(lines))
    assert (await trigger(client))["run"]["warnings"] == []
    assert await features(client) == shipped
    found = await connection.execute(
        "select max(attnum) from pg_attribute"
        " where attrelid = 'staging.users'::regclass"
    )
    assert await found.fetchone() == (5,)


async def test_a_file_that_changes_while_it_is_loaded(
    client: Client, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trigger(client)
    before = await features(client)
    users = data_dir / "users.csv"

    async def load_late(*arguments: Any) -> None:
        users.write_text(users.read_text() + "11,\tLate,\t,\t\n")
        monkeypatch.undo()
        await load._load(*arguments)

    monkeypatch.setattr("etl.run.load._load", load_late)
    failed = await trigger(client, 422, full="true")
    assert failed["result"].startswith("users.csv: was changed while it was read")
    assert await features(client) == before
