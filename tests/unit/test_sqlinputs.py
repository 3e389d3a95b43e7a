"""What a SQL file reads and writes, and whether it uses the clock or chance."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from etl.sqlfiles import SqlFile, SqlFileError, read_folder
from etl.sqlinputs import calls, is_volatile, reads, writes

TABLES = ("staging.a", "staging.b", "a_next", "b_next", "features")


def sql(text: str) -> SqlFile:
    return SqlFile("build", "010_x.sql", text, "")


def read(text: str) -> set[str]:
    """What a text names, besides what a header says."""
    found = reads(sql(f"-- reads:\n{text}"), TABLES)
    assert found is not None
    return {*found}


def test_a_file_without_the_header_reads_everything() -> None:
    assert reads(sql("select 1 from staging.a;"), TABLES) is None
    assert reads(sql("-- grain: one row\nselect 1;"), TABLES) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("-- reads:", set()),
        ("-- reads: staging.b", {"staging.b"}),
        ("-- reads:  staging.b , a_next,features", {"staging.b", "a_next", "features"}),
        ("-- reads: public.a_next, etl.runs, a_view", {"a_next", "etl.runs", "a_view"}),
        ("-- reads: staging.b\n-- reads: a_next", {"staging.b", "a_next"}),
    ],
)
def test_a_file_reads_what_its_header_lists(header: str, expected: set[str]) -> None:
    assert reads(sql(f"{header}\nselect 1;"), TABLES) == frozenset(expected)
    with_text = reads(sql(f"{header}\nselect 1 from staging.a;"), TABLES)
    assert with_text == frozenset({*expected, "staging.a"})


@pytest.mark.parametrize(
    "value", ["the users", "staging.a, and all others", "staging.a,", "a,,b", "a.b.c"]
)
def test_a_header_that_is_no_list_reads_and_writes_everything(value: str) -> None:
    assert reads(sql(f"-- reads: {value}\nselect 1;"), TABLES) is None
    assert writes(sql(f"-- writes: {value}\ninsert into a select 1;")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select a_next.x from staging.a as a_next", {"staging.a"}),
        ("select b.x from b_next as\n b, a_next", {"a_next", "b_next"}),
        (
            "select b_next.x from staging.a\nas b_next, features",
            {"staging.a", "features"},
        ),
        ("with a_next as (select 1) select 1 from a_next", {"a_next"}),
        ("select 1 from staging.a", {"staging.a"}),
        ("select 1 from STAGING . \n A", {"staging.a"}),
        ('select 1 from "staging"/* x */."a"', {"staging.a"}),
        ("select staging.a.id from staging.a", {"staging.a"}),
        ("select 1 from db.staging.a", {"staging.a"}),
        ("select 1 from a_next, public.b_next", {"a_next", "b_next"}),
        ("select 1 from db.public.a_next", {"a_next"}),
        ("select a_next.id", set()),
        ("table features", {"features"}),
        ("select 'it''s staging.a' from staging.b", {"staging.b"}),
        ("select 'a\\' from staging.b --'", {"staging.b"}),
        (r"select E'it\'s staging.a' from staging.b", {"staging.b"}),
        ("select a$b$ from staging.a, c$b$", {"staging.a"}),
        ("-- from staging.a\nselect 1", set()),
        ("/* ' */ select 1 from staging.a /* ' */", {"staging.a"}),
        ("select '/*' from staging.a -- */", {"staging.a"}),
        ("select '--' from staging.a", {"staging.a"}),
        ('select "--" from staging.a', {"staging.a"}),
        ("select \"it's\" from staging.a where 'x' = ''", {"staging.a"}),
        ("select 1 from staging.ab, xa_next, a_next2, Éa_next", set()),
        ("select 1 from other.a_next, a, staging_a", set()),
        ("select $1 from staging.a where $2", {"staging.a"}),
        ("do $$ begin perform 1 from staging.a; end $$", {"staging.a"}),
        ("create function f() as $f$ select 1 from staging.a $f$", {"staging.a"}),
        ("select 1 /* an unclosed staging.a", set()),
    ],
)
def test_a_file_reads_what_its_text_names(text: str, expected: set[str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("insert into a_next select 1", set()),
        ("insert into public.a_next (id) values (1)", set()),
        ("insert into a_next select 1 from b_next", {"b_next"}),
        ("insert into a_next select 1 from a_next", {"a_next"}),
        ("insert into a_next values (1) on conflict do nothing", {"a_next"}),
        ("update a_next set id = 1", {"a_next"}),
        ("delete from a_next", {"a_next"}),
    ],
)
def test_what_is_only_inserted_into_is_not_read(text: str, expected: set[str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1", None),
        ("-- writes:\nselect 1", set()),
        ("-- writes: c_next\ninsert into a_next select 1", {"a_next", "c_next"}),
        ("-- writes: public.a_next\nselect 1", {"a_next"}),
        ("INSERT INTO Public.A_next select 1", {"a_next"}),
        ("update only a_next set x = 1; delete from only b_next", {"a_next", "b_next"}),
        ("truncate a_next", {"a_next"}),
        (
            "truncate table only a_next *, public.b_next, s.c",
            {"a_next", "b_next", "s.c"},
        ),
        ("merge into a_next using b_next on true when matched then delete", {"a_next"}),
        ("create table if not exists s.a_next as select 1", {"s.a_next"}),
        ("create temp table a_next (id int)", {"a_next"}),
        ("insert into a values (1) on conflict (id) do update set id = 2", {"a"}),
        ("select 1 from a for update; select 1 from a for no key update of a", None),
        ("select 'insert into a' -- insert into a\n", None),
        ("do $$ begin delete from a; end $$", {"a"}),
    ],
)
def test_a_file_writes_what_it_says_and_what_its_statements_do(
    text: str, expected: set[str] | None
) -> None:
    assert writes(sql(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "-- runs: always\nselect 1",
        *("select now()", "select Pg_Catalog.NOW ( )", 'select "now"()'),
        *("select current_date", "select CURRENT_TIME(0)", "select current_timestamp"),
        *("select localtime", "select localtimestamp(3)", "select clock_timestamp()"),
        *("select statement_timestamp()", "select transaction_timestamp()"),
        *("select timeofday()", "select random()", "select random_normal(0, 1)"),
        *("select setseed(0.5)", "select gen_random_uuid()", "select uuidv4()"),
        *("select uuidv7()", "select nextval('s')", "select lastval()"),
        *("select txid_current()", "select pg_current_xact_id()"),
        *("select 'now'::timestamp", "select date 'today'", "select E'now'::date"),
        *(
            "select cast(' Tomorrow ' as date)",
            "select 'yesterday 04:05 UTC'::timestamp",
        ),
        "select 1 from staging.a where day < 'today'",
        "select age(day)",
        "select extract(year from age(date(greatest(a, b))))",
        "select 1 from staging.a tablesample bernoulli (1)",
        "do $$ begin perform random(); end $$",
    ],
)
def test_the_clock_and_chance_are_seen(text: str) -> None:
    assert is_volatile(sql(text))


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "-- now() current_date\nselect 1 /* random() */",
        "select 'random()', 'current_date'",
        "select now, a.random, lastval from staging.a",
        "select 'it is now in line 3', 'nowhere', 'todays', 'from now on'",
        "select snow(), randomly(1), x_current_date",
        "-- grain: always\nselect 1",
    ],
)
def test_what_only_looks_like_the_clock_is_not(text: str) -> None:
    assert not is_volatile(sql(text))


def test_tables_that_come_and_go_leave_nothing_in_memory() -> None:
    file = sql("-- reads: a\nselect 1 from a")
    others = {f"other.table_{number}" for number in range(200)}
    tracemalloc.start()
    try:
        for number in range(2000):
            assert reads(file, {*others, f"table_{number}"}) == frozenset({"a"})
        assert tracemalloc.get_traced_memory()[0] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "called"),
    [
        *(("select f(1)", True), ("select PUBLIC . F (1)", True)),
        *(("select other.g(1)", True), ('select "Other" . "G" (1)', True)),
        *(("select other /* a */ .\ng(1)", True), ("select another.g(1)", False)),
        *(("select f from staging.a", False), ("select other.g", False)),
    ],
)
def test_calls_of_functions_are_seen(text: str, called: bool) -> None:
    functions = frozenset({"f", "public.f", "other.g"})
    assert calls(sql(text), functions) is called


def test_a_file_runs_always_or_says_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "010_a.sql"
    path.write_text("-- runs: always\nselect 1;")
    assert [is_volatile(file) for file in read_folder(tmp_path)] == [True]
    for value in ("", " never", " always, after build/010_a.sql", " Always"):
        path.write_text(f"-- runs:{value}\nselect 1;")
        said = f'{tmp_path.name}/010_a.sql: "-- runs: ?{value.strip()}" is unknown'
        with pytest.raises(SqlFileError, match=said):
            read_folder(tmp_path)


def test_a_file_redoes_one_table_by_another(tmp_path: Path) -> None:
    path = tmp_path / "010_a.sql"
    for value in ("a", "a by b", "a () by b", "a (b c) by d", "a (b) by c, d"):
        path.write_text(f"-- redoes: {value}\nselect 1;")
        said = f'{tmp_path.name}/010_a.sql: "-- redoes: {re.escape(value)}" is wrong'
        with pytest.raises(SqlFileError, match=said):
            read_folder(tmp_path)
    for value in ("a (b) by c", "a (b, c) by d"):
        path.write_text(f"-- redoes: {value}\nselect 1;")
        assert len(read_folder(tmp_path)) == 1
