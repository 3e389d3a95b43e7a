-- The records that runs could not take, each with its place, its reason and its text.
create table etl.rejects (
    run_id      bigint not null references etl.runs on delete cascade,
    file        text   not null,
    line        bigint not null,
    id          bigint generated always as identity,
    column_name text,
    value       text,
    reason      text   not null,
    message     text   not null,
    record      text   not null,
    primary key (run_id, file, line, id)
);
comment on table etl.rejects is 'Records that a run left out: one row per error';
comment on column etl.rejects.run_id is 'The run';
comment on column etl.rejects.file is 'The file';
comment on column etl.rejects.line is 'Line where the record starts, from 1';
comment on column etl.rejects.id is 'Tells the errors of one record apart';
comment on column etl.rejects.column_name is
'Column at fault, null for the whole record';
comment on column etl.rejects.value is 'Its value, without blanks around it';
comment on column etl.rejects.reason is 'What is wrong, in one word of a fixed set';
comment on column etl.rejects.message is 'What is wrong, for people';
comment on column etl.rejects.record is 'The record as in the file';

-- Rows that came the raw path: what COPY took is plain, and obeys without a look.
create unlogged table etl.odd_rows (
    source regclass not null,
    row_id tid      not null,
    line   bigint,
    record text
) with (autovacuum_enabled = false);
comment on table etl.odd_rows is 'Rows of staging whose records are not plain';
comment on column etl.odd_rows.line is 'Their line in the file, where it is known';
comment on column etl.odd_rows.record is 'The record as in the file, where it is known';
comment on column etl.odd_rows.source is 'Their table: its tableoid';
comment on column etl.odd_rows.row_id is 'Their place in it: their ctid';

-- A file of sql/clean puts here what breaks its rule. Then the engine finds the lines,
-- moves the records to etl.rejects and the rows out of staging. Of those with the
-- reason duplicate_key, the first in the file with a value stays.
create unlogged table etl.found (
    source      regclass not null,
    row_id      tid      not null,
    column_name text,
    value       text,
    reason      text     not null,
    message     text
) with (autovacuum_enabled = false);
comment on table etl.found is 'Rows of staging that break a rule of sql/clean';
comment on column etl.found.source is 'Their table: its tableoid';
comment on column etl.found.row_id is 'Their place in it: their ctid';
comment on column etl.found.column_name is 'Column at fault, null for the whole record';
comment on column etl.found.value is 'Its value';
comment on column etl.found.reason is 'What is wrong, in one word of a fixed set';
comment on column etl.found.message is 'What is wrong, for people';
