"""SQL files: order, names, hashes, slices."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from etl.sqlfiles import Rule, SqlFileError, locate, read_folder, read_pipeline


def test_files_come_in_order_with_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "020_second.sql").write_bytes(b"select etl.slices();")
    (tmp_path / "010_first.sql").write_bytes(b"select 1;")
    (tmp_path / "README.md").write_text("no SQL")
    first, second = read_folder(tmp_path)
    assert (first.name, second.name) == ("010_first.sql", "020_second.sql")
    assert first.sha256 == hashlib.sha256(b"select 1;").hexdigest()
    assert (first.in_slices, second.in_slices) == (False, True)
    assert first.path == f"{tmp_path.name}/010_first.sql"


def test_a_folder_that_is_not_there_holds_none(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "clean") == []


@pytest.mark.parametrize(
    "content",
    [
        "-- Å.\nselect '\n';\n",
        "-- Å.\r\nselect '\r\n';\r\n",
        "\ufeff-- Å.\nselect '\n';\n",
        "\ufeff-- Å.\r\nselect '\n';\r\n",
    ],
)
def test_line_ends_and_a_byte_order_mark_change_neither_text_nor_hash(
    tmp_path: Path, content: str
) -> None:
    """Git writes others on Windows, and a database remembers the hash."""
    (tmp_path / "010_a.sql").write_bytes(content.encode())
    (file,) = read_folder(tmp_path)
    assert file.text == "-- Å.\nselect '\n';\n"
    assert file.sha256 == hashlib.sha256(file.text.encode()).hexdigest()


def test_header_lines_are_read_with_any_line_ends(tmp_path: Path) -> None:
    (tmp_path / "010_a.sql").write_bytes(
        b"-- severity: warn\r\n-- reads:  b \r\nselect;"
    )
    (file,) = read_folder(tmp_path)
    assert file.header == {"severity": "warn", "reads": "b"}
    assert file.only_warns


#: Names that a SQL file was given by mistake.
MISTAKEN = [
    *("1_short.sql", "10_name.sql", "010-dash.sql", "010_Big.sql", "x.SQL", "x.sql"),
    *("010_a.sql.txt", "010_a.txt", "010_a", "010_a b.sql", "010_å.sql", "010_a.psql"),
    *("010_a.Sql", "\u0660\u0661\u0660_a.sql", "README.sql"),
]


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_file_that_would_be_passed_over_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "010_right.sql").write_text("select 1;")
    (tmp_path / name).write_text("select 1;")
    with pytest.raises(SqlFileError) as raised:
        read_folder(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path.name}/{name} would be passed over: a SQL file is named like "
        "010_what_it_does.sql: three digits, an underscore, then a to z, 0 to 9 and "
        "underscores"
    )


def test_a_name_of_any_bytes_is_one_line_of_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9\n.sql")
    (tmp_path / name).write_text("select 1;")
    with pytest.raises(SqlFileError) as raised:
        read_folder(tmp_path)
    said = f"{tmp_path.name}/\\udce9 .sql would be passed over: a SQL file is named"
    assert str(raised.value).startswith(said)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("010_a.sql", "010_b.sql"):
        (tmp_path / name).write_text("select 1;")
    with pytest.raises(SqlFileError, match=r"/010_b\.sql: 010_a\.sql has the same num"):
        read_folder(tmp_path)


def test_a_check_may_be_overridden_by_a_parameter_that_there_is(
    tmp_path: Path,
) -> None:
    check = tmp_path / "010_a.sql"
    check.write_text("-- overridden_by: allow_empty\nselect 1;")
    assert [file.header for file in read_folder(tmp_path)] == [
        {"overridden_by": "allow_empty"}
    ]
    check.write_text("select 1;")
    assert [file.header for file in read_folder(tmp_path)] == [{}]
    for value in ("", " ", " allow_all", " allow_empty, dry_run"):
        check.write_text(f"-- overridden_by:{value}\nselect 1;")
        with pytest.raises(SqlFileError, match="say allow_empty"):
            read_folder(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [("severity: warm", "say warn or error"), ("runs: never", "say always")],
)
def test_a_header_line_has_a_value_that_there_is(
    tmp_path: Path, line: str, says: str
) -> None:
    (tmp_path / "010_a.sql").write_text(f"-- {line}\nselect 1;")
    with pytest.raises(SqlFileError, match=f'"-- {line}" is unknown: {says}'):
        read_folder(tmp_path)


@pytest.mark.parametrize("folder", ["schema", "citus"])
def test_a_comment_of_a_file_that_is_frozen_is_no_header(
    tmp_path: Path, folder: str
) -> None:
    """It could not be corrected once the file was applied, and has no meaning there."""
    (tmp_path / folder).mkdir()
    text = "-- severity: from 1 to 5\n-- runs: of the user\n-- redoes: nothing\nselect;"
    (tmp_path / folder / "010_a.sql").write_text(text)
    assert [file.text for file in read_folder(tmp_path / folder)] == [text]


def test_a_folder_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "010_more.sql").mkdir()
    with pytest.raises(
        SqlFileError, match="/010_more.sql is a folder and would be pas"
    ):
        read_folder(tmp_path)


def test_what_editors_leave_behind_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (
        *("README.md", "README", "notes.md", ".gitkeep", ".010_a.sql.swp", ".#x.sql"),
        *("010_a.sql~", "#010_a.sql#", "010_a.sql.bak", "010_a.sql.orig", "x.sql.swp"),
    ):
        (tmp_path / name).write_text("no SQL")
    assert read_folder(tmp_path) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "010_a.sql"
    file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SqlFileError, match="/010_a.sql: cannot read it: No such file"):
        read_folder(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SqlFileError, match="/010_a.sql is not a regular file"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"\xef\xbb\xbfselect 1;\r\nselect '\xc3\xa9\xe9';",
            ", line 2, column 10: the byte 0xE9 is not UTF-8: save the file as UTF-8",
        ),
        ("select 1;".encode("utf-16"), " is UTF-16: save it as UTF-8"),
        (
            "select 1;".encode("utf-16-le"),
            ", line 1, column 2: a null byte: save the file as UTF-8",
        ),
    ],
)
def test_a_file_that_is_not_utf8_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "010_a.sql").write_bytes(content)
    with pytest.raises(SqlFileError) as raised:
        read_folder(tmp_path)
    assert str(raised.value) == f"{tmp_path.name}/010_a.sql{said}"


def test_places_in_a_text_are_counted_as_people_do() -> None:
    text = "é😀a\n\nb\n"
    assert [locate(text, offset) for offset in (0, 2, 3, 4, 5, 7)] == [
        *("line 1, column 1", "line 1, column 3", "line 1, column 4"),
        *("line 2, column 1", "line 3, column 1", "line 4, column 1"),
    ]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The least pipeline that there is."""
    for name in ("schema/001_tables.sql", "build/010_features.sql"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("select 1;")
    return tmp_path


def test_a_pipeline_is_read_by_folder(pipeline: Path) -> None:
    (pipeline / "README.md").write_text("no SQL")
    (pipeline / "LICENSE").write_text("no SQL")
    (pipeline / ".git").mkdir()
    files = read_pipeline(pipeline)
    assert list(files) == ["schema", "citus", "clean", "build", "check", "charts"]
    found = {folder: [file.path for file in some] for folder, some in files.items()}
    assert found["schema"] == ["schema/001_tables.sql"]
    assert found["clean"] == []


def refused(folder: Path) -> str:
    with pytest.raises(SqlFileError) as raised:
        read_pipeline(folder)
    return str(raised.value)


def test_a_folder_that_is_no_pipeline_is_refused(pipeline: Path) -> None:
    (pipeline / "build" / "010_features.sql").unlink()
    assert refused(pipeline) == f"SQL_DIR: {pipeline / 'build'} holds no SQL file"
    (pipeline / "build").rmdir()
    assert refused(pipeline) == (
        f"SQL_DIR: {pipeline} has no folder build: a pipeline has schema (what makes "
        "its tables) and build (what fills features_next)"
    )
    inner = pipeline / "project" / "sql"
    (inner / "schema").mkdir(parents=True)
    said = refused(inner.parent)
    assert said.startswith(f"SQL_DIR: {inner.parent} has no folder schema: ")
    assert said.endswith(f"; did you mean {inner}?")


@pytest.mark.parametrize("name", ["checks", "Check", "old"])
def test_a_folder_that_would_be_passed_over_is_refused(
    pipeline: Path, name: str
) -> None:
    (pipeline / name).mkdir()
    assert refused(pipeline) == (
        f"SQL_DIR: {pipeline / name} would be passed over: the folders of a pipeline "
        "are schema, citus, clean, build, check, charts; rename it, or move it "
        "elsewhere"
    )


@pytest.mark.parametrize("name", ["010_a.sql", "x.SQL"])
def test_a_file_beside_the_folders_is_refused(pipeline: Path, name: str) -> None:
    (pipeline / name).write_text("select 1;")
    assert refused(pipeline) == (
        f"SQL_DIR: {pipeline / name} would be passed over: move it into one of the "
        "folders schema, citus, clean, build, check, charts"
    )


def test_a_file_in_the_place_of_a_folder_is_refused(pipeline: Path) -> None:
    (pipeline / "check").write_text("select 1;")
    said = f"SQL_DIR: {pipeline / 'check'}: cannot read it: Not a directory"
    assert refused(pipeline) == said


RULE = "-- rejects: users.user_id\n-- reason: any\n"


@pytest.mark.parametrize(
    "header", ["verified_by: check/010_a.sql", "runs_after: clean/010_rule.sql"]
)
def test_a_rule_that_names_a_file_that_is_not_there_is_refused(
    pipeline: Path, header: str
) -> None:
    """It would never run, or only where the build fails."""
    (pipeline / "clean").mkdir()
    (pipeline / "clean" / "010_rule.sql").write_text(f"{RULE}-- {header}\nselect 1;")
    folder = "check" if "check" in header else "build"
    said = f'clean/010_rule.sql: "-- {header}" names no file of {folder}'
    assert refused(pipeline) == said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("-- reason: any\n", ' has no line "-- rejects: …": a rule says source.column'),
        ("-- rejects: users\n", ' has "-- rejects: users": a rule says source.column'),
        ("-- rejects: users ()\n", ' has "-- rejects: users ()": a rule says source.'),
        ("-- rejects: a.b\n", ' has no line "-- reason: …": a rule says one word, su'),
        ("-- rejects: a.b\n-- reason: Two words\n", ' has "-- reason: Two words": a '),
        (f"{RULE}-- keeps: last\n", ' has "-- keeps: last": a rule says first, or le'),
    ],
)
def test_a_rule_says_what_it_rejects_and_why(
    pipeline: Path, header: str, said: str
) -> None:
    (pipeline / "clean").mkdir()
    (pipeline / "clean" / "010_rule.sql").write_text(f"{header}select 1;")
    assert refused(pipeline).startswith(f"clean/010_rule.sql{said}")


def test_a_rule_is_read_from_its_header(pipeline: Path) -> None:
    (pipeline / "clean").mkdir()
    (pipeline / "clean" / "010_rule.sql").write_text(
        "-- rejects:     orders (order_id, line_no)\n-- reason:      duplicate_key\n"
        "-- keeps:       first\n-- runs_after:  build/010_features.sql\nselect 1;"
    )
    (file,) = read_pipeline(pipeline)["clean"]
    assert Rule.of(file) == Rule(
        file=file,
        source="orders",
        at_fault=["order_id", "line_no"],
        reason="duplicate_key",
        keeps_first=True,
        runs_after="build/010_features.sql",
        verified_by=None,
    )
