"""What the house rules say and a machine can see."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from aiohttp.web import Application
from psycopg import AsyncConnection

import etl
from etl.api.charts import read_charts
from etl.api.openapi import BASE
from etl.api.routes import create_app
from etl.postgres.migrations import migrate
from etl.settings import PROJECT, Settings
from etl.sqlfiles import read_folder

#: Where users find every setting, endpoint, script and column.
DOCS = "\n".join(
    (PROJECT / name).read_text() for name in ("README.md", "docs/reference.md")
)

#: Folders of what others made.
VENDOR = {"vendor", "swagger-ui"}

PYTHON = [PROJECT / "server.py", *sorted((PROJECT / "etl").rglob("*.py"))]
WEB = sorted(
    path
    for path in (PROJECT / "etl" / "web").rglob("*.*")
    if path.suffix in (".html", ".css", ".js") and not VENDOR & {*path.parts}
)
SQL = sorted(
    path
    for folder in ("sql", "etl", "examples")
    for path in (PROJECT / folder).rglob("*.sql")
)

#: Other pipelines than the project's own, and the SQL folders of all.
EXAMPLES = PROJECT / "examples"
PIPELINES = [PROJECT / "sql", *sorted(EXAMPLES.glob("*/sql"))]

TESTS = sorted((PROJECT / "tests").rglob("*.py"))

#: Modules that test files share.
SUPPORT = sorted((PROJECT / "tests" / "support").glob("[!_]*.py"))

MAX_LINES_OF_SUPPORT = 300

#: A line of a module, and of the entry point.
MAX_LINES, MAX_LINES_OF_SERVER = 300, 40

#: The folders of the engine; a module uses those before its own alone. What puts them
#: together stands beside them.
PACKAGES = ("csvfiles", "postgres", "run", "reading", "http", "api")
OUTSIDE = {"service", "terminal", "psql"}

PIPELINE_WORDS = re.compile(
    r"user_id|experiment|compound|signup|product_|order_id|order_line|staging\.\w", re.I
)

#: Hashes of the schema files of the released versions, of which databases have some.
FROZEN = PROJECT / "tests" / "house" / "frozen_schema_files.txt"

#: Hashes of what others made and a folder's README says where it is from.
VENDORED = PROJECT / "tests" / "house" / "vendored_files.txt"


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in paths]


@pytest.mark.parametrize("path", [*PYTHON, *WEB], ids=names([*PYTHON, *WEB]))
def test_python_and_the_page_know_no_pipeline(path: Path) -> None:
    assert PIPELINE_WORDS.findall(path.read_text().replace("staging.<", "")) == []


@pytest.mark.parametrize("path", PYTHON, ids=names(PYTHON))
def test_modules_are_short_and_say_what_they_own(path: Path) -> None:
    text = path.read_text()
    most = MAX_LINES_OF_SERVER if path.name == "server.py" else MAX_LINES
    assert len(text.splitlines()) <= most
    assert text.startswith('"""')


@pytest.mark.parametrize("path", SUPPORT, ids=names(SUPPORT))
def test_support_modules_are_short_and_say_what_they_own(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES_OF_SUPPORT
    assert text.startswith('"""')


@pytest.mark.parametrize("path", TESTS, ids=names(TESTS))
def test_tests_import_from_support_alone(path: Path) -> None:
    """What two test files share belongs into tests/support; fixtures into conftest."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            # An imported name may be a module: ``from tests.support import client``.
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    ours = {name for name in modules if f"{name}.".startswith("tests.")}
    assert {name for name in ours if not name.startswith("tests.support.")} == set()


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_a_package_uses_those_before_it_alone(package: str) -> None:
    before = PACKAGES[: PACKAGES.index(package) + 1] if package else ()
    later = {*PACKAGES, *OUTSIDE} - {*before}
    modules = sorted((PROJECT / "etl" / package).glob("*.py"))
    assert len(modules) > 1
    for path in modules:
        if package or path.stem not in OUTSIDE:
            text = path.read_text()
            used = set(re.findall(r"(?:from|import) etl(?: import |\.)(\w+)", text))
            assert not used & later, path


@pytest.mark.parametrize("path", WEB, ids=names(WEB))
def test_files_of_the_page_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    first = {".js": "// ", ".css": "/* ", ".html": "<!doctype html>"}[path.suffix]
    assert text.startswith(first)
    if path.suffix == ".js":
        assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SQL, ids=names(SQL))
def test_sql_files_say_what_they_are_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("-- ")
    assert max(map(len, lines)) <= 88
    assert lines[-1].endswith(";")


def test_numbers_of_sql_files_tell_their_order() -> None:
    for folder in (*PIPELINES, PROJECT / "etl"):
        for once in ("schema", "citus"):
            numbers = [int(file.name[:3]) for file in read_folder(folder / once)]
            assert numbers == list(range(1, len(numbers) + 1))
    phases = [
        folder / phase
        for folder in PIPELINES
        for phase in ("clean", "build", "check", "charts")
    ]
    for phase in (*phases, PROJECT / "etl" / "functions"):
        numbers = [int(file.name[:3]) for file in read_folder(phase)]
        assert numbers
        assert all(number % 10 == 0 for number in numbers)


@pytest.mark.parametrize("folder", PIPELINES, ids=names(PIPELINES))
def test_charts_have_a_title_and_a_description(folder: Path) -> None:
    charts = read_charts(folder)
    assert charts
    assert [chart.name for chart in charts if chart.title == chart.name] == []
    assert [chart.name for chart in charts if not chart.description] == []


@pytest.mark.parametrize("path", [*PYTHON, *SQL], ids=names([*PYTHON, *SQL]))
def test_nothing_uses_how_rows_are_stored(path: Path) -> None:
    """Nor what a distributed table refuses: SELECT without columns, inheritance."""
    found = re.findall(
        r"\b(?:ctid|xmin|tableoid|pg_(?:total_)?relation_size|pg_inherits|inherits)\b"
        r"|(?<!import )\bselect\s+from\b|pg_current_xact_id",
        path.read_text(),
        re.IGNORECASE,
    )
    assert found == []


def test_released_schema_files_are_frozen() -> None:
    """A database that has one of them refuses another content: add a file instead.
    Before the first release there is no such file."""
    found = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(PROJECT)}"
        for path in SQL
        if path.parent.name in ("schema", "citus") and not path.is_relative_to(EXAMPLES)
    ]
    frozen = FROZEN.read_text().splitlines()
    assert [line for line in frozen if line not in found] == []
    assert bool(frozen) == (etl.RELEASED is not None)


def test_the_engine_knows_the_version_released_last() -> None:
    """Before the first, a start says how to start over with another schema."""
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    released = re.search(r"^## \[?v?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert (released[1] if released else None) == etl.RELEASED


@pytest.mark.parametrize("folder", PIPELINES, ids=names(PIPELINES))
async def test_every_table_and_column_has_a_comment(
    empty_database: str, folder: Path
) -> None:
    connected = await AsyncConnection.connect(empty_database, autocommit=True)
    async with connected as connection:
        await migrate(connection, folder)
        await _require_comments(connection)


async def _require_comments(connection: AsyncConnection) -> None:
    bare = await connection.execute(
        """
        select format('%s.%s', tables.oid::regclass, columns.attname)
        from pg_class as tables
        inner join pg_attribute as columns on tables.oid = columns.attrelid
        where
            tables.relnamespace::regnamespace::text in ('public', 'staging', 'etl')
            and tables.relkind in ('r', 'p', 'v')
            and columns.attnum > 0
            and not columns.attisdropped
            and (
                obj_description(tables.oid, 'pg_class') is null
                or tables.relkind <> 'v'
                and col_description(tables.oid, columns.attnum) is null
            )
        """
    )
    assert await bare.fetchall() == []


def settings() -> set[str]:
    source = (PROJECT / "etl" / "settings.py").read_text()
    return set(re.findall(r'"([A-Z]+(?:_[A-Z]+)*)"', source))


def test_the_docs_name_every_setting() -> None:
    assert {"HOST", "LOAD_WORKERS", "DATABASE_URL", "DB_PASS", "PGHOST"} <= settings()
    assert [name for name in sorted(settings()) if f"`{name}`" not in DOCS] == []


def test_compose_passes_every_setting_on() -> None:
    """But those that say where things are in the container, or another database."""
    fixed = {"HOST", "DATA_DIR", "SQL_DIR", "STATE_DIR", "DATABASE_URL"}
    passed = {name for name in settings() - fixed if not name.startswith("PG")}
    assert "API_TOKEN" in passed
    compose = (PROJECT / "docker-compose.yml").read_text()
    example = (PROJECT / ".env.example").read_text()
    for name in sorted(passed):
        assert f"${{{name}:-" in compose, name
        assert f"\n{name}=" in example, name


#: The route of the files that the pages are made of.
FILES = "/static/{file}"


def routes() -> set[tuple[str, str]]:
    """Path and method of all that may be asked; HEAD goes with GET."""
    app: Application = create_app(Settings())
    return {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
        if route.resource.canonical != FILES
    }


async def test_the_docs_have_the_columns_of_the_files(
    connection: AsyncConnection,
) -> None:
    """Each with its type, and whether it may be empty."""
    staging = await connection.execute(
        """
        select tables.relname || '.csv', columns.attname,
            format_type(columns.atttypid, columns.atttypmod), columns.attnotnull
        from pg_class as tables
        inner join pg_attribute as columns on tables.oid = columns.attrelid
        where
            tables.relnamespace = 'staging'::regnamespace
            and tables.relkind = 'r'
            and columns.attnum > 0
            and not columns.attisdropped
        """
    )
    described, file = [], ""
    table = DOCS.split("\n| file | column | type |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        file = cells[0] or file
        described.append((file, cells[1], cells[2], cells[3] in ("key", "no")))
    assert sorted(described) == sorted(await staging.fetchall())


def test_the_docs_name_every_endpoint() -> None:
    paths = {path for path, _ in routes()}
    assert [path for path in sorted(paths) if f"`{path}`" not in DOCS] == []


def test_every_route_is_described_and_no_other() -> None:
    described = {
        (path, method)
        for path, operations in json.loads(BASE)["paths"].items()
        for method in operations
    }
    assert routes() == described


def test_vendored_files_are_as_they_came() -> None:
    found = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(PROJECT)}"
        for path in sorted((PROJECT / "etl" / "web").glob("*/*/*"))
        if path.name != "README.md"
    ]
    assert found == VENDORED.read_text().splitlines()


def test_the_docs_name_every_script() -> None:
    scripts = subprocess.run(
        ["git", "ls-files", "*.sh"], cwd=PROJECT, capture_output=True, text=True
    ).stdout.split()
    assert [name for name in scripts if name not in DOCS] == []
    assert all((PROJECT / name).stat().st_mode & 0o100 for name in scripts)


def test_git_writes_scripts_with_line_feeds_on_every_system() -> None:
    scripts = ["run.sh", "test.sh", ".ci/run", "scripts/common.bash"]
    attributes = subprocess.run(
        ["git", "check-attr", "eol", "--", *scripts],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert attributes == [f"{name}: eol: lf" for name in scripts]
