"""SQL that gives the table ``features`` more columns, or many rows."""

from __future__ import annotations

#: Columns of all kinds, with names that need quotes.
MORE_COLUMNS = """
create domain share as double precision check (value >= 0);
create domain shares as share[];
create type mood as enum ('good', 'bad "so"');
create type pair as (a integer, b text);
alter table features
    add column "limit" smallint not null default 1,
    add column part share,
    add column parts shares,
    add column mood mood,
    add column moods mood[] not null default '{}',
    add column pair pair,
    add column seen timestamptz,
    add column plain timestamp,
    add column code varchar(3),
    add column amount numeric(8, 2),
    add column ok boolean,
    add column words jsonb,
    add column id uuid,
    add column "a.b, ""c"" (d)" text;
comment on column features.part is 'A part';
"""

#: More bytes than all buffers on their way hold, in few rows.
ROWS = 40_000

FILL = f"""
insert into features
select
    number, 'User ' || number || repeat('x', 700), e'\\t"\\\\', '2024-01-01', 1, 1, 0.1
from generate_series(1, {ROWS}) as number
"""
