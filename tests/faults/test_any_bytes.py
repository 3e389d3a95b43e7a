"""Whatever a file holds: good records arrive by either path, and nothing breaks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.csvfiles.blocks import CsvRecord
from etl.csvfiles.patterns import Column, RecordPatterns, compile_patterns
from etl.run.copying import copy_raw_records
from etl.settings import RejectLimit, Settings
from tests.support.client import Client, features, get, trigger
from tests.support.lasting import LastingService, lasting_service

HEADERS = {
    "users": "user_id,name,email,signup_date",
    "user_experiments": (
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time"
    ),
    "compounds": "compound_id,compound_name,compound_structure",
}

#: Of these, files are made that are nearly right.
PIECES = [
    *(b",", b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b'""', b'"a,\nb"'),
    *(b"1", b"2", b"3", b"-4", b"007", b"x", b"\t", b" ", b"\\.", b"2024-02-29"),
    *(b"NaN", b"0x1", b"1_0", b"today", b"\xc3\xa9", b"\xff", b"\0", b";", b"\x1c"),
]

#: Each session has examples of its own; more find what one session does not.
HYPOTHESIS = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


#: A row, without the spaces and tabs that the fast path leaves around lists.
SELECT_ROWS = r"""select regexp_replace(to_jsonb(t)::text, '"(\\t| )+', '"', 'g')"""


class Service(LastingService):
    """What the files of an example leave in staging."""

    def write(self, name: str, content: bytes) -> None:
        (self.data_dir / f"{name}.csv").write_bytes(content)

    def staged(self) -> dict[str, list[str]]:
        return {
            name: [
                row
                for (row,) in self.connection.execute(
                    f"{SELECT_ROWS} from staging.{name} as t order by 1".encode()
                )
            ]
            for name in HEADERS
        }


@pytest.fixture
def service(
    database: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    monkeypatch.setattr("etl.run.phases.block_bytes", lambda streams: 64)
    chosen = Settings(
        port=0,
        data_dir=data_dir,
        load_workers=2,
        build_workers=1,
        keep_runs=1,
        max_rejects=RejectLimit.parse("100%"),
        database=database,
    )
    with lasting_service(Service, chosen) as started:
        yield started


VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=6
) | st.text("a\"',;\t\r\n\\. ", max_size=6)

NUMBERS = st.sampled_from(["", "5", "-1.5", " 7\t", "+2e3", ".5"])


@st.composite
def good_files(draw: st.DrawFn) -> dict[str, list[list[str]]]:
    users = draw(st.lists(st.integers(-9, 99), unique=True, min_size=1, max_size=6))
    dates = st.sampled_from(["", "2024-02-29", " 2023-12-31"])
    known = st.sampled_from(users).map(str)
    lists = st.sampled_from(["", ";", "1;2", " 3 ;\t4;", "-1", "9" * 18])
    experiments = draw(st.lists(st.tuples(known, lists, NUMBERS), max_size=8))
    return {
        "users": [[str(n), draw(VALUES), draw(VALUES), draw(dates)] for n in users],
        "user_experiments": [
            [str(number), *fields] for number, fields in enumerate(experiments)
        ],
        "compounds": [["1", draw(VALUES), draw(VALUES)]],
    }


def written(
    name: str,
    records: Sequence[Sequence[str]],
    delimiter: str,
    end: str,
    blanks: Iterator[str],
) -> bytes:
    """Records as CSV; where the next of ``blanks`` is a digit too, all is quoted."""

    def field(value: str) -> str:
        blank = next(blanks)
        if blank.strip() or any(char in value for char in f'"\r\n{delimiter}'):
            return blank.strip("0") + '"' + value.replace('"', '""') + '"'
        return value

    lines = [HEADERS[name].replace(",", delimiter)]
    lines += [delimiter.join(map(field, record)) for record in records]
    return (end.join(lines) + end).encode()


@HYPOTHESIS
@given(
    files=good_files(),
    delimiter=st.sampled_from(",\t;|"),
    blanks=st.lists(st.sampled_from(["", "", "0", " 0", "\t0"]), min_size=1),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_both_paths_give_the_same_rows(
    service: Service,
    files: dict[str, list[list[str]]],
    delimiter: str,
    blanks: list[str],
    end: str,
) -> None:
    no_tabs = [blank.replace("\t", " ") for blank in blanks]
    given_blanks = cycle(no_tabs if delimiter == "\t" else blanks)
    for name, records in files.items():
        service.write(name, written(name, records, delimiter, end, given_blanks))
    by_fast_path = service.do(trigger(service.client, full="true", allow_empty="true"))
    staged = service.staged()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.csvfiles.blocks.compile_patterns", _nothing_is_regular)
        sent = count_raw_records(patch)
        by_slow_path = service.do(
            trigger(service.client, full="true", allow_empty="true")
        )
    assert service.staged() == staged
    assert sum(sent) == sum(map(len, files.values()))
    for answer in (by_fast_path, by_slow_path):
        assert {
            file["file"]: (file["records"], file["rejected"])
            for file in answer["run"]["files"]
        } == {f"{name}.csv": (len(records), 0) for name, records in files.items()}


def count_raw_records(patch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of records that go the slow path from now on."""
    sent: list[int] = []

    async def counted(connection: Any, records: Sequence[CsvRecord]) -> None:
        sent.append(len(records))
        await copy_raw_records(connection, records)

    patch.setattr("etl.run.load.copy_raw_records", counted)
    return sent


def _nothing_is_regular(
    columns: Sequence[Column | None], delimiter: str
) -> RecordPatterns:
    nothing = re.compile(b"")
    patterns = compile_patterns(columns, delimiter)
    return replace(patterns, regular=nothing, unquoted=nothing, skeleton=None)


@HYPOTHESIS
@given(
    name=st.sampled_from(list(HEADERS)),
    content=st.binary(max_size=200)
    | st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join),
    with_header=st.booleans(),
)
@example(name="users", content=b'1,"a\n', with_header=True)
@example(name="users", content=b"1,a,b,\n1,c,d,\n", with_header=True)
def test_any_bytes_are_taken_or_refused(
    service: Service, name: str, content: bytes, with_header: bool
) -> None:
    shipped = {path: path.read_bytes() for path in service.data_dir.glob("*.csv")}
    before = service.do(features(service.client))
    header = HEADERS[name].encode() + b"\n" if with_header else b""
    service.write(name, header + content)
    try:
        status, answer = service.do(_trigger(service.client))
        assert status in (200, 422), answer
        after = service.do(features(service.client))
        if status == 422:
            assert after == before
            assert "\n" not in answer["result"]
        else:
            entries = service.do(
                get(service.client, f"/runs/{answer['run']['id']}/rejects")
            )
            lines = {(entry["file"], entry["line"]) for entry in entries}
            files = answer["run"]["files"]
            assert len(lines) == sum(file["rejected"] for file in files)
            users = files[-1]
            assert len(after) == users["records"] - users["rejected"]
    finally:
        for path, bytes_ in shipped.items():
            path.write_bytes(bytes_)


async def _trigger(client: Client) -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(30), client.get("/trigger_etl") as response:
        return response.status, await response.json(content_type=None)


#: Text of a record with its key as ``{}``, and what is wrong: columns with reasons.
USERS: list[tuple[str, dict[str | None, str]]] = [
    ("{},Ann,a@b.c,2024-02-29", {}),
    ('0{},"Ben, ""B""\n\nof two",,', {}),
    ('"{}",\t"Cid"\t,\t,\t\r', {}),
    ("{},Dan,d@e.f,today", {"signup_date": "invalid_value"}),
    ("{},Eve,,2023-02-29", {"signup_date": "invalid_value"}),
    ("{}x,Fay,,", {"user_id": "invalid_value"}),
    ("{}_0,Gil,,soon", {"user_id": "invalid_value", "signup_date": "invalid_value"}),
    (" ,Hal{},,", {"user_id": "missing_key"}),
    ("{},Ida", {None: "field_count"}),
    ("{},Joe,,,", {None: "field_count"}),
    ('{},6" tall,,', {None: "bad_quote"}),
    ('{},"Kim" K.,,', {None: "bad_quote"}),
]
EXPERIMENTS: list[tuple[str, dict[str | None, str]]] = [
    ("{},{user},1;2,5", {}),
    ("{},\t{user},\t 3 ;;4; ,\t", {}),
    ('{},{user},"1;2",-1.5e1', {}),
    ("{},{user},1:3,5", {"experiment_compound_ids": "invalid_value"}),
    ("{},{user},1 2,5", {"experiment_compound_ids": "invalid_value"}),
    ("{},{user},1,NaN", {"experiment_run_time": "invalid_value"}),
    ("{},,1,5", {"user_id": "missing_key"}),
    ("{},{user},1,2,3", {None: "field_count"}),
]
Lines = list[tuple[int, int, tuple[str, dict[str | None, str]]]]


def numbered(kinds: Sequence[Any]) -> st.SearchStrategy[Lines]:
    """Kinds of records with a key and the key of a user, and blank lines for zero."""
    return st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from(kinds)),
        max_size=25,
    )


@HYPOTHESIS
@given(users=numbered(USERS), experiments=numbered(EXPERIMENTS))
def test_exactly_the_broken_records_are_left_out(
    service: Service, users: Lines, experiments: Lines
) -> None:
    expected: list[tuple[str, int, str | None, str]] = []
    kept: dict[str, dict[int, int]] = {"users": {}, "user_experiments": {}}
    rejected_users: set[int] = set()
    for name, lines in (("users", users), ("user_experiments", experiments)):
        text, line = HEADERS[name] + "\n", 2
        for key, user, (form, faults) in lines:
            record = form.format(key, user=user) if key else " \t"
            text += record + "\n"
            found = dict(faults) if key else None
            if found == {} and name == "user_experiments" and user not in kept["users"]:
                is_rejected = user in rejected_users
                found = {"user_id": "rejected_user" if is_rejected else "unknown_user"}
            if found == {} and key in kept[name]:
                found = {HEADERS[name].split(",")[0]: "duplicate_key"}
            if found == {}:
                kept[name][key] = user
            elif found and name == "users" and "user_id" not in found:
                rejected_users.add(key)
            for column, reason in (found or {}).items():
                expected.append((f"{name}.csv", line, column, reason))
            line += record.count("\n") + 1
        service.write(name, text.encode())
    service.connection.execute("delete from features")
    answer = service.do(trigger(service.client))
    entries = service.do(get(service.client, f"/runs/{answer['run']['id']}/rejects"))
    keys = ("file", "line", "column", "reason")
    found_entries = [tuple(entry[key] for key in keys) for entry in entries]
    assert sorted(found_entries, key=str) == sorted(expected, key=str)
    rows = service.do(features(service.client))
    counts = {row["user_id"]: row["total_experiments"] for row in rows}
    made = list(kept["user_experiments"].values())
    assert counts == {user: made.count(user) for user in kept["users"]}
