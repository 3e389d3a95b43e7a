"""Whether ``-- reads:`` is complete: each file of the pipelines runs as a role that may
read these tables and no other, and fails without any one of them.

Which rows there are makes no difference. Before its first row, Postgres checks the
permissions on all tables of a statement, also on those that a false condition keeps it
from reading; only a subquery in a constant branch, as in ``case when false``, is gone
by then, and never runs. What a function reads is checked once it is called. A row may
have to be there for that, so each function that a file names is also called by itself;
what a function reads in some of its branches alone is not found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from etl.settings import PROJECT
from etl.sqlfiles import SqlFile, read_pipeline
from etl.sqlinputs import reads, writes
from tests.support.databases import Postgres, new_database
from tests.support.processes import run_server

#: The folder of each pipeline.
PIPELINES = {"shipped": PROJECT} | {
    path.parent.name: path.parent for path in sorted(PROJECT.glob("examples/*/sql"))
}

#: The folders whose files run only where something that they read has changed.
FOLDERS = ("clean", "build", "check")

#: It is made in a transaction that is rolled back, so that nobody else ever sees it.
READER = "reader_of_the_tests"

SCHEMAS = """
    select nspname from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
"""

#: The pipeline's tables as headers name them.
TABLES = """
    select case nspname when 'public' then relname else nspname || '.' || relname end
    from pg_class
    inner join pg_namespace on relnamespace = pg_namespace.oid
    where relkind in ('r', 'p') and nspname in ('public', 'staging')
"""

#: Lets no view and no function read with the permissions of its owner.
AS_THE_CALLER = f"""
    select format('alter view %I.%I set (security_invoker)', nspname, relname)
    from pg_class
    inner join pg_namespace on relnamespace = pg_namespace.oid
    where relkind = 'v' and nspname in ({SCHEMAS})
    union all
    select format(
        'alter function %s called on null input security invoker',
        pg_proc.oid::regprocedure
    )
    from pg_proc
    inner join pg_namespace on pronamespace = pg_namespace.oid
    where prokind = 'f' and nspname in ({SCHEMAS})
"""

#: The name of each function, and a call of it. Its arguments are null, which fits every
#: type; so that no plan is made for nulls alone, plans are generic.
CALLS = f"""
    select
        proname,
        format(
            'select * from %I.%I(%s)',
            nspname,
            proname,
            (
                select string_agg(format('null::%s', format_type(type, null)), ', ')
                from unnest(proargtypes) as arguments (type)
            )
        )
    from pg_proc
    inner join pg_namespace on pronamespace = pg_namespace.oid
    where prokind = 'f' and nspname in ({SCHEMAS})
"""


def tables_of(folder: Path) -> set[str]:
    """The tables that the schema files of a pipeline make."""
    files = read_pipeline(folder / "sql", ["schema"])["schema"]
    return {table for file in files for table in writes(file) or ()}


def files_of(folder: Path) -> list[SqlFile]:
    files = read_pipeline(folder / "sql", FOLDERS)
    return [file for phase in FOLDERS for file in files[phase]]


#: Each file, after the name of its pipeline, with the tables that it reads.
FILES = [
    (name, file, reads(file, tables_of(folder)))
    for name, folder in PIPELINES.items()
    for file in files_of(folder)
]


@pytest.fixture(scope="module")
def after_run(postgres: Postgres) -> Iterator[dict[str, Connection]]:
    """By pipeline, a connection to a database in which a run of it has succeeded."""
    if not postgres.is_superuser:
        pytest.skip("needs a superuser, to become a role of its own making")
    with ExitStack() as stack:
        connections = {}
        for name, folder in PIPELINES.items():
            database = stack.enter_context(new_database(postgres, migrated=False))
            ended = run_server("--once", str(folder), DATABASE_URL=database)
            assert ended.returncode == 0, ended.stderr
            connection = psycopg.connect(database, autocommit=True)
            connections[name] = stack.enter_context(connection)
        yield connections


def table_in(error: InsufficientPrivilege) -> str:
    """The table that was denied, which only the message of an error names."""
    return str(error.diag.message_primary).split()[-1]


def run_as_reader(
    connection: Connection, file: SqlFile, tables: Collection[str]
) -> None:
    """Run a file, and each function that it names, as a role that may read these tables
    alone and write what the file writes; then undo all of it.
    """

    def execute(statement: LiteralString, *names: str) -> None:
        identifiers = (sql.Identifier(*name.split(".")) for name in names)
        connection.execute(sql.SQL(statement).format(*identifiers))

    def query(text: str) -> list[tuple[str, ...]]:
        return connection.execute(text.encode()).fetchall()

    with connection.transaction(force_rollback=True):
        execute("create role {}", READER)
        for (schema,) in query(SCHEMAS):
            execute("grant usage on schema {} to {}", schema, READER)
            execute("grant execute on all functions in schema {} to {}", schema, READER)
            execute("grant usage on all sequences in schema {} to {}", schema, READER)
        for table in tables:
            execute("grant select on {} to {}", table, READER)
        for table in writes(file) or ():
            execute("delete from {}", table)  # as the build finds it
            execute("grant insert, update, delete, truncate on {} to {}", table, READER)
        for (alteration,) in query(AS_THE_CALLER):
            connection.execute(alteration.encode())
        calls = query(CALLS)
        execute("set local plan_cache_mode = force_generic_plan")
        execute("set local etl.run_id = '1'")  # others' writes are noted
        execute("set local etl.builds_part = 'on'")  # reads the changes, too
        execute("set local role {}", READER)
        connection.execute(file.text.encode())
        for name, call in calls:
            if re.search(rf"\b{name}\s*\(", file.text, re.IGNORECASE):
                connection.execute(call.encode())


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_schema_files_name_every_table(
    after_run: dict[str, Connection], pipeline: str
) -> None:
    """So what a file reads is known above, where there is no database."""
    tables = {table for (table,) in after_run[pipeline].execute(TABLES.encode())}
    assert {"features", "features_next"} < tables <= tables_of(PIPELINES[pipeline])
    assert {file.folder for name, file, _ in FILES if name == pipeline} == {*FOLDERS}


@pytest.mark.parametrize(
    ("pipeline", "file", "tables"),
    [
        pytest.param(name, file, tables, id=f"{name}: {file.path}")
        for name, file, tables in FILES
    ],
)
def test_a_file_reads_no_table_that_it_does_not_list(
    after_run: dict[str, Connection],
    pipeline: str,
    file: SqlFile,
    tables: frozenset[str] | None,
) -> None:
    assert tables is not None, "it has no line -- reads:, or one that is no list"
    run_as_reader(after_run[pipeline], file, tables)


@pytest.mark.parametrize(
    ("pipeline", "file", "others", "left_out"),
    [
        pytest.param(
            *(name, file, tables - {left_out}, left_out),
            id=f"{name}: {file.path} without {left_out}",
        )
        for name, file, tables in FILES
        if tables is not None
        for left_out in sorted(tables)
    ],
)
def test_a_file_reads_each_table_that_it_lists(
    after_run: dict[str, Connection],
    pipeline: str,
    file: SqlFile,
    others: frozenset[str],
    left_out: str,
) -> None:
    """So the test above finds a table that is left out, and no file runs because of a
    table that it does not read.
    """
    with pytest.raises(InsufficientPrivilege) as denied:
        run_as_reader(after_run[pipeline], file, others)
    assert table_in(denied.value) == left_out.split(".")[-1]


#: Ways to read a table that the text does not name.
HIDDEN = """
    create view of_view as select * from features;
    create function of_function() returns bigint
    language sql strict security definer as 'select count(*) from features';
    create function of_role(given text) returns boolean language plpgsql as $$
    begin
        return exists (
            select 1 from pg_roles
            where rolname = given and exists (select 1 from features)
        );
    end;
    $$;
"""


@pytest.mark.parametrize(
    "text",
    [
        "select 1 from features where false;",
        "select count(*) from of_view;",
        "select of_function();",
        "select case when (select false) then of_function() end;",
        "select case when false then of_function() end;",
        "select 1 where false and of_role('a');",
    ],
)
def test_a_table_counts_however_it_is_read(
    after_run: dict[str, Connection], text: str
) -> None:
    file = SqlFile("check", "010_a.sql", text, sha256="")
    connection = after_run["shipped"]
    with connection.transaction(force_rollback=True):
        connection.execute(HIDDEN)
        run_as_reader(connection, file, {"features", "of_view"})
        with pytest.raises(InsufficientPrivilege) as denied:
            run_as_reader(connection, file, {"of_view"})
    assert table_in(denied.value) == "features"
