"""Features by DuckDB: ``with_duckdb.py DATA CONNINFO TABLE``.

The last line printed is its seconds, imports excluded.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import duckdb
from replace_table import replace_table

READ = (
    "read_csv('{data}/{file}.csv', columns = {columns}, delim = ',', quote = '\"', "
    "escape = '\"', nullstr = ['', '\t'], header = true, auto_detect = false, "
    "ignore_errors = true)"
)

#: Bytes taken from the pipe at once.
CHUNK = 1 << 20

LOAD = r"""
create table users as
select
    user_id,
    nullif(trim(name, e' \t'), '') as name,
    nullif(trim(email, e' \t'), '') as email,
    signup_date,
from {users}
where user_id is not null;

create table compounds as
select compound_id, nullif(trim(compound_name, e' \t'), '') as compound_name
from {compounds}
where compound_id is not null;

-- Numbers of 18 digits are bigint whatever they are; an empty element becomes null.
-- The reader looks only at columns that are asked for: a bad run_time must be seen.
create table experiments as
select
    experiment_id,
    user_id,
    try_cast(string_split(compound_ids, ';') as bigint[]) as compound_ids,
    run_time,
from {user_experiments}
where
    experiment_id is not null
    and user_id is not null
    and (
        compound_ids is null
        or regexp_full_match(
            compound_ids,
            '(?:[ \t]*[+-]?[0-9]{{0,18}}[ \t]*;)*[ \t]*[+-]?[0-9]{{0,18}}[ \t]*'
        )
    );
"""

#: Of records with the same number, the first one stays.
FIRST_ONES = """
create or replace table {table} as
select *
from {table}
where {rule}
qualify row_number() over (partition by {key} order by rowid) = 1;
"""

#: mode() takes the value that it meets first on a tie: the lowest of a sorted list.
FEATURES = """
with
per_user as (
    select
        user_id,
        count(*) as total_experiments,
        list_aggregate(
            list_sort(flatten(list(compound_ids))), 'mode'
        ) as compound_id
    from experiments
    where user_id in (select user_id from users)
    group by user_id
),

totals as (
    select
        (select count(*) from users) as users,
        (select sum(total_experiments) from per_user) as experiments
)

select
    users.user_id,
    users.name,
    users.email,
    users.signup_date,
    coalesce(per_user.total_experiments, 0) as total_experiments,
    coalesce(totals.experiments, 0) / totals.users::double as avg_experiments,
    coalesce(per_user.total_experiments / totals.experiments::double, 0)
        as experiments_pct,
    per_user.compound_id,
    compounds.compound_name
from users
cross join totals
left join per_user on users.user_id = per_user.user_id
left join compounds on per_user.compound_id = compounds.compound_id
"""

FILES = {
    "users": {
        "user_id": "BIGINT",
        "name": "VARCHAR",
        "email": "VARCHAR",
        "signup_date": "DATE",
    },
    "compounds": {
        "compound_id": "BIGINT",
        "compound_name": "VARCHAR",
        "compound_structure": "VARCHAR",
    },
    "user_experiments": {
        "experiment_id": "BIGINT",
        "user_id": "BIGINT",
        "compound_ids": "VARCHAR",
        "run_time": "DOUBLE",
    },
}


def main() -> None:
    """Read, compute, hand over; print the seconds."""
    data, conninfo, table = sys.argv[1:]
    began = time.perf_counter()
    database = duckdb.connect()
    sources = {
        file: READ.format(data=data, file=file, columns=columns)
        for file, columns in FILES.items()
    }
    database.execute(LOAD.format(**sources))
    _keep_first_ones(database, "users", "user_id", "true")
    _keep_first_ones(database, "compounds", "compound_id", "true")
    known = "user_id in (select user_id from users)"
    _keep_first_ones(database, "experiments", "experiment_id", known)
    _hand_over(database, conninfo, table)
    print(time.perf_counter() - began)


def _keep_first_ones(
    database: duckdb.DuckDBPyConnection, table: str, key: str, rule: str
) -> None:
    """Counting is cheaper than ranking, and most files have no repeated number."""
    repeats = database.execute(f"select count(*) > count(distinct {key}) from {table}")
    if repeats.fetchall() == [(True,)]:
        database.execute(FIRST_ONES.format(table=table, key=key, rule=rule))


def _hand_over(database: duckdb.DuckDBPyConnection, conninfo: str, table: str) -> None:
    """DuckDB writes CSV into a pipe while Postgres reads from its other end."""
    reading, writing = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        try:
            database.execute(
                f"copy ({FEATURES}) to '/dev/fd/{writing}' (format csv, header false)"
            )
        except Exception as error:
            failures.append(error)
        finally:
            os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with replace_table(conninfo, table) as copy, os.fdopen(reading, "rb") as pipe:
        while chunk := pipe.read(CHUNK):
            copy.write(chunk)
        writer.join()
        if failures:
            raise failures[0]


if __name__ == "__main__":
    main()
