"""The pipeline on Citus, where TEST_CITUS_URL names a database of its coordinator: it
leaves what it leaves on a plain Postgres, and the nodes do the work on their own rows.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, Connection

from etl.settings import PROJECT, RejectLimit
from etl.sqlfiles import SqlFile, read_pipeline
from tests.support.citus import Citus
from tests.support.client import Client, StartService, trigger
from tests.support.databases import new_database
from tests.support.outcomes import Outcome, outcome_of
from tests.support.processes import run_server

SHARDS = 8
USERS = 2_000

#: Bytes that a statement may bring to the coordinator, or send to all nodes: some for
#: each shard. One number for each user would be more than ten times as much.
MAX_BYTES = 1_500

#: They compare the numbers of all experiments, and rows are spread by user.
OF_ALL_EXPERIMENTS = {
    "clean/040_experiment_ids_are_unique.sql",
    "check/060_experiment_ids_are_unique.sql",
}

MOVED = re.compile(
    r"(?:Tuple data received from nodes|Intermediate Data Size): (\d+) (bytes|[kM]B)"
)
UNITS = {"bytes": 1, "kB": 1 << 10, "MB": 1 << 20}

#: The bounds of the histogram of a column, of each shard.
STATISTICS = """
select result from run_command_on_shards('staging.user_experiments', $$
    select array_length(histogram_bounds::text::text[], 1)
    from pg_stats
    where
        format('%%I.%%I', schemaname, tablename)::regclass = '%s'::regclass
        and attname = 'experiment_id'
$$)
"""

FILES = {
    file.path: file
    for files in read_pipeline(PROJECT / "sql", ("clean", "build", "check")).values()
    for file in files
}

CASES = sorted(
    path.parent for path in (PROJECT / "tests/cases").glob("*/expected.json")
)

HEADERS = {
    "users.csv": "user_id,name,email,signup_date\n",
    "user_experiments.csv": (
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time\n"
    ),
    "compounds.csv": "compound_id,compound_name,compound_structure\n",
}


def write_data(folder: Path) -> None:
    """Write files of USERS users with three experiments each."""
    folder.mkdir()
    users = range(1, USERS + 1)
    records = {
        "users.csv": [f"{user},User {user},,2024-01-01" for user in users],
        "user_experiments.csv": [
            f"{number * USERS + user},{user},{user % 7};{user % 11};{number},1.5"
            for number in range(3)
            for user in users
        ],
        "compounds.csv": [f"{number},Compound {number},C" for number in range(12)],
    }
    for name, header in HEADERS.items():
        (folder / name).write_text(header + "\n".join(records[name]) + "\n")


@pytest.fixture(scope="module")
def after_run(
    citus: Citus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A connection to a database in which a run has succeeded."""
    folder = tmp_path_factory.mktemp("citus") / "data"
    write_data(folder)
    with new_database(citus) as database:
        ended = run_server("--once", DATABASE_URL=database, DATA_DIR=folder)
        assert ended.returncode == 0, ended.stderr
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("select etl.create_working_tables()")
            yield connection


def statements(file: SqlFile) -> list[str]:
    code = re.sub(r"^--.*\n", "", file.text, flags=re.MULTILINE)
    return [each for each in re.split(r";\s*(?:\n|\Z)", code) if each.strip()]


def explain(connection: Connection, options: str, statement: str) -> str:
    """The plan of a statement, which changes nothing."""
    with connection.transaction(force_rollback=True):
        rows = connection.execute(
            f"explain (costs off, {options}) {statement}".encode()
        )
        return "\n".join(line for (line,) in rows)


def moved_bytes(plan: str) -> int:
    """Bytes that left a node while a statement ran."""
    return sum(int(number) * UNITS[unit] for number, unit in MOVED.findall(plan))


@pytest.mark.parametrize("table", ["activity_next", "features_next"])
def test_rows_for_each_user_are_built_where_they_are_read(
    after_run: Connection, table: str
) -> None:
    """One task for each shard, and nothing that moves rows between nodes."""
    built = [
        explain(after_run, "summary off", statement)
        for path, file in FILES.items()
        if path.startswith("build/")
        for statement in statements(file)
        if statement.lstrip().startswith(f"insert into {table}")
    ]
    assert built
    for plan in built:
        first, tasks = plan.splitlines()[:2]
        assert first == "Custom Scan (Citus Adaptive)"
        assert tasks == f"  Task Count: {SHARDS}"
        assert f"->  Insert on {table}_" in plan
        assert plan.count("Citus") == 1
        for word in ("Subplan ", "intermediate", "pull", "repartition"):
            assert word not in plan


@pytest.mark.parametrize("path", sorted(FILES.keys() - OF_ALL_EXPERIMENTS))
def test_nodes_send_no_rows(after_run: Connection, path: str) -> None:
    """But sums, and whether there is a row at all."""
    for statement in statements(FILES[path]):
        if re.match(r"\s*insert into (?:activity|features)_next", statement):
            continue  # above
        query = re.sub(r"\A\s*insert into \w+ \([^)]*\)", "", statement)
        plan = explain(after_run, "analyze, timing off, buffers off", query)
        assert moved_bytes(plan) < MAX_BYTES, plan


def test_bytes_that_are_moved_are_seen(after_run: Connection) -> None:
    plan = explain(after_run, "analyze", "select user_id from staging.users")
    assert moved_bytes(plan) > MAX_BYTES


def test_each_shard_has_statistics_of_a_tenth_of_the_usual_sample(
    after_run: Connection,
) -> None:
    rows = after_run.execute(STATISTICS).fetchall()
    assert rows == [("11",)] * SHARDS


def test_what_is_distributed(after_run: Connection) -> None:
    """features is not: its readers would see old rows and new ones at a time."""
    rows = after_run.execute(
        "select logicalrelid::text, partmethod::text, colocationid"
        " from pg_dist_partition order by 1"
    ).fetchall()
    by_user = {table: group for table, method, group in rows if method == "h"}
    assert by_user.keys() == {
        "activity_changes",
        "activity_next",
        "features_next",
        "staging.user_experiments",
        "staging.users",
    }
    assert len({*by_user.values()}) == 1
    everywhere = {table for table, method, _ in rows if method == "n"}
    assert everywhere == {"staging.compounds", "totals_next"}


@dataclass
class Twins:
    """The same service over a plain Postgres and over a Citus, with the same files."""

    data_dir: Path
    plain: tuple[Client, AsyncConnection]
    citus: tuple[Client, AsyncConnection]

    async def run(self, **parameters: str) -> dict[str, Any]:
        """Run both, and require that they leave the same; the run of the Citus."""
        plain = await outcome_of(*self.plain, parameters)
        citus = await outcome_of(*self.citus, parameters)
        for outcome in (plain, citus):
            outcome.left.pop("etag", None)  # a database with Citus has one file more
        assert citus.differences(plain) == []
        assert _done(citus) == _done(plain)
        return citus.run

    def append(self, name: str, *records: str) -> None:
        with (self.data_dir / name).open("a") as file:
            file.writelines(f"{record}\n" for record in records)

    def replace(self, name: str, old: str, new: str) -> None:
        path = self.data_dir / name
        path.write_text(path.read_text().replace(old, new, 1))


def _done(outcome: Outcome) -> object:
    """What a run did, and what it kept."""
    return [
        [(file["file"], file["load"]) for file in outcome.run["files"]],
        [(step["file"], step["rows"], step["kept"]) for step in outcome.run["steps"]],
    ]


@pytest.fixture
async def twins(
    citus: Citus, database: str, start_service: StartService, tmp_path: Path
) -> AsyncIterator[Twins]:
    data_dir = tmp_path / "twins"
    async with AsyncExitStack() as stack:
        named = stack.enter_context(new_database(citus))
        pairs = []
        for conninfo in (database, named):
            client = await start_service(
                data_dir=data_dir,
                database=conninfo,
                max_rejects=RejectLimit.parse("100%"),
            )
            connecting = AsyncConnection.connect(conninfo, autocommit=True)
            connection = await stack.enter_async_context(await connecting)
            pairs.append((client, connection))
        yield Twins(data_dir, *pairs)
        for client, _ in pairs:
            await client.close()


async def test_cases_end_as_on_plain_postgres(twins: Twins) -> None:
    """One after the other in one database each: a case meets what another has left."""
    twins.data_dir.mkdir()
    for case in CASES:
        for name, header in HEADERS.items():
            given = case / name
            content = given.read_bytes() if given.exists() else header.encode()
            (twins.data_dir / name).write_bytes(content)
        await twins.run(allow_empty="true")


async def test_runs_after_changes_end_as_on_plain_postgres(twins: Twins) -> None:
    """What is kept, appended and rejected, and checks that fail."""
    write_data(twins.data_dir)
    await twins.run()
    await twins.run()
    assert (await twins.run())["unchanged"]

    new = 10 * USERS
    twins.append("user_experiments.csv", *(f"{new + n},{n},5;5,1" for n in range(1, 9)))
    steps = {step["file"]: step for step in (await twins.run())["steps"]}
    assert steps["build/010_activity.sql"]["rows"] == 8  # a part of the rows

    twins.replace("users.csv", "User 7,", "Another,")
    await twins.run()
    twins.append("user_experiments.csv", f"{new + 20},{new},1,1", f"{new},1,1:2,1")
    await twins.run()
    twins.append("users.csv", f"{new},Known now,,", "5,Again,,", "x,No number,,")
    await twins.run()
    twins.append("user_experiments.csv", "5,7,1,1", f"{new + 21},{new + 1},1,1")
    await twins.run()
    twins.append("compounds.csv", "5,Again,C", "1000,,")
    await twins.run()
    await twins.run(full="true")
    users = (twins.data_dir / "users.csv").read_bytes()
    (twins.data_dir / "users.csv").write_text(HEADERS["users.csv"])
    assert (await twins.run())["state"] == "failed"
    (twins.data_dir / "users.csv").write_bytes(users)
    await twins.run()


async def test_a_database_that_has_rows_is_distributed_later(
    citus: Citus,
    start_service: StartService,
    tmp_path: Path,
    sql_dir: Path,
    data_dir: Path,
) -> None:
    """The next run loads and builds all again; until then features has its rows."""
    kept = Path(shutil.move(sql_dir / "citus", tmp_path / "citus"))
    with new_database(citus, migrated=False) as conninfo:
        before = await start_service(sql_dir=sql_dir, database=conninfo)
        await trigger(before)
        await before.close()
        shutil.move(kept, sql_dir / "citus")
        after = await start_service(sql_dir=sql_dir, database=conninfo)
        connecting = AsyncConnection.connect(conninfo, autocommit=True)
        async with await connecting as connection, after.get("/features") as answer:
            assert len(await answer.json()) == 10
            rows = await connection.execute("select count(*) from pg_dist_partition")
            assert (await rows.fetchone() or (0,))[0] > 0
        run = (await trigger(after))["run"]
        assert [file["load"] for file in run["files"]] == ["loaded"] * 3
        await after.close()
