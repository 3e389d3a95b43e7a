"""SQL files: order, names, hashes, slices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from etl.sqlfiles import SqlFileError, read_folder


def test_files_come_in_order_with_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "020_second.sql").write_bytes(b"select current_setting('etl.slices');")
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
    "names",
    [["1_short.sql"], ["010-dash.sql"], ["010_Big.sql"], ["010_a.sql", "010_b.sql"]],
)
def test_a_name_that_does_not_say_its_place_is_refused(
    tmp_path: Path, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).write_text("select 1;")
    with pytest.raises(SqlFileError, match=names[-1]):
        read_folder(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "010_a.sql").write_bytes(b"select '\xff';")
    with pytest.raises(SqlFileError, match="010_a.sql"):
        read_folder(tmp_path)
