"""What the docs say of files, links, header lines and reasons, held against these."""

from __future__ import annotations

import re
import subprocess

import pytest

from etl.settings import PROJECT
from etl.sqlfiles import Rule, read_folder

#: Written by people of this project, by path.
PAGES = {
    path: (PROJECT / path).read_text()
    for path in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=PROJECT, capture_output=True, text=True
    ).stdout.split()
    if not path.startswith("etl/web/")
}

MAX_LINES_OF_README = 150

#: Links and pictures: the target of each.
LINK = re.compile(r"\]\(([^)\s]+)\)")

#: A test that a page names: a file, a function of it, or a function of the file before.
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`")

#: A file of SQL that a page quotes as it is.
QUOTED_FILE = re.compile(r"^`([\w/]+\.sql)`:\n\n```sql\n(.*?)^```$", re.M | re.S)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= MAX_LINES_OF_README


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_are_named_exist(page: str) -> None:
    path, missing = "", []
    for given, function in NAMED_TEST.findall(PAGES[page]):
        path = given or path
        if not path and not function:
            continue  # an empty pair of backticks
        file = PROJECT / path
        if not file.is_file() or f"def {function or 'test_'}" not in file.read_text():
            missing.append(f"{path}::{function}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    broken = []
    for target in LINK.findall(PAGES[page]):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (PROJECT / page).parent / path if path else PROJECT / page
        if not file.exists():
            broken.append(target)
        elif anchor:
            name = str(file.resolve().relative_to(PROJECT))
            if anchor not in anchors(name):
                broken.append(target)
    assert broken == []


def test_sql_files_that_the_docs_quote_are_as_quoted() -> None:
    quoted = QUOTED_FILE.findall(PAGES["docs/pipeline.md"])
    assert len(quoted) >= 3
    for path, text in quoted:
        assert text == (PROJECT / path).read_text(), path


def test_sql_files_that_the_docs_name_are_there() -> None:
    """But for the one that the README has a reader write, and its build file."""
    named = {
        name
        for page in ("README.md", "docs/pipeline.md", "docs/architecture.md")
        for name in re.findall(r"`((?:\w+/)*sql/\w+/\w+\.sql)", PAGES[page])
    }
    assert len(named) > 5
    missing = {name for name in named if not (PROJECT / name).is_file()}
    assert missing == {"sql/schema/004_longest_run_time.sql"}


def test_the_docs_have_every_header_line() -> None:
    """Those that the engine reads, wherever it does."""
    source = "".join(
        path.read_text() for path in sorted((PROJECT / "etl").rglob("*.py"))
    )
    read = set(re.findall(r'(?:header(?:\.get\(|\[)|_declared\(file, )"(\w+)"', source))
    assert {"rejects", "reason", "runs_after", "severity"} <= read
    described = set(re.findall(r"^\| `-- (\w+):", PAGES["docs/pipeline.md"], re.M))
    assert described == {*read, "title"}


def test_the_docs_have_every_reason() -> None:
    slow_path = (PROJECT / "etl" / "functions" / "030_slow_path.sql").read_text()
    reasons = set(re.findall(r"(?:then|else) '(\w+_\w+)'", slow_path))
    assert {"field_count", "missing_key", "invalid_value"} <= reasons
    reasons |= {Rule.of(file).reason for file in read_folder(PROJECT / "sql" / "clean")}
    table = PAGES["docs/reference.md"].split("\n| reason | what is wrong |\n")[1]
    described = re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], re.MULTILINE)
    assert sorted(described) == sorted(reasons)


def test_the_changelog_has_each_kind_once() -> None:
    """For each version, newest first, as keepachangelog.com has them."""
    headings = re.findall(r"^(#{2,3}) (.*)$", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert headings[0][0] == "##"
    kinds = [name for level, name in headings if level == "###"]
    versions = sum(level == "##" for level, _ in headings)
    assert set(kinds) <= {"Added", "Changed", "Fixed", "Removed"}
    assert all(kinds.count(kind) <= versions for kind in kinds)


def test_paths_of_the_engine_that_the_docs_name_are_there() -> None:
    """Decisions may name what was there when they were made."""
    named = {
        name
        for page, text in PAGES.items()
        if not page.startswith(("docs/decisions/", "CHANGELOG.md"))
        for name in re.findall(r"`(etl(?:/\w+)+(?:\.\w+)?)`", text)
    }
    assert len(named) > 20
    assert {name for name in named if not (PROJECT / name).exists()} == set()
