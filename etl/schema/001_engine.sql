-- The engine's tables: which SQL files the database has, what runs did, what they
-- rejected, and what a pipeline declares.
create schema etl;
comment on schema etl is 'The engine: files applied, runs, rejects';

create table etl.applied (
    folder     text        not null,
    file       text        not null,
    sha256     text        not null,
    applied_at timestamptz not null default now(),
    primary key (folder, file)
);
comment on table etl.applied is 'SQL files that were applied to this database';
comment on column etl.applied.folder is
'engine (etl/schema), functions (etl/functions), pipeline (sql/schema) or citus '
'(sql/citus)';
comment on column etl.applied.file is 'Name of the file';
comment on column etl.applied.sha256 is 'SHA-256 of the file as applied, in hex';
comment on column etl.applied.applied_at is 'When it was applied';

create table etl.runs (
    id          bigint generated always as identity primary key,
    state       text        not null default 'running',
    phase       text,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    seconds     numeric     not null default 0,
    files       json        not null default '[]',
    steps       json        not null default '[]',
    warnings    json        not null default '[]',
    error       text,
    dry_run     boolean     not null,
    allow_empty boolean     not null default false,
    full_run    boolean     not null default false,
    unchanged   boolean     not null default false,
    changes     json,
    backend_pid integer     not null default pg_backend_pid(),
    check (state in ('running', 'succeeded', 'failed', 'interrupted')),
    check (phase in ('load', 'clean', 'build', 'check', 'publish'))
);
comment on table etl.runs is 'Every run with all that it did: see etl.run_records';
comment on column etl.runs.id is 'Number of the run';
comment on column etl.runs.state is 'running, succeeded, failed or interrupted';
comment on column etl.runs.phase is 'load, clean, build, check or publish';
comment on column etl.runs.started_at is 'When it began';
comment on column etl.runs.finished_at is 'When it ended, null while it runs';
-- The difference of its times is not that where the clock was set meanwhile.
comment on column etl.runs.seconds is 'How long it had taken when it was last saved';
comment on column etl.runs.files is
'Per CSV file: file, bytes, sha256, load (kept, appended or loaded), records, '
'records_loaded (read in this run), rejected, rejected_by_reason, header (as in the '
'file, with its line end)';
comment on column etl.runs.steps is
'Per SQL file, each time it ran: file, sha256, rows, milliseconds, and kept: whether '
'it did not run, since nothing had changed';
comment on column etl.runs.warnings is 'What should be known and did not stop it';
comment on column etl.runs.error is 'Why it failed, in one line; null if it did not';
comment on column etl.runs.dry_run is 'Whether it did everything but publish';
comment on column etl.runs.allow_empty is
'Whether checks that ask for rows where there were some only warned';
comment on column etl.runs.full_run is
'Whether it did everything from nothing, whatever was kept';
comment on column etl.runs.unchanged is
'Whether nothing had changed, so that nothing was done';
comment on column etl.runs.changes is
'Rows of features that publishing would have added, removed and changed, in a dry run '
'that compared them; else null';
comment on column etl.runs.backend_pid is 'Server process that leads it';

create table etl.published (
    singleton    boolean primary key default true check (singleton),
    run_id       bigint,
    published_at timestamptz,
    content      text    not null default '',
    built        text    not null default '',
    rows         bigint,
    writes       bigint
);
comment on table etl.published is 'The run that filled the table features; one row';
comment on column etl.published.singleton is 'Always true: there is one such row';
comment on column etl.published.run_id is
'The last run whose rows these are, null before the first';
comment on column etl.published.published_at is 'When it was published';
comment on column etl.published.content is
'Digest of the files of data and SQL that features was made of';
comment on column etl.published.built is
'Version of features_next that was published: see etl.results';
comment on column etl.published.rows is 'Rows that were published';
comment on column etl.published.writes is
'Rows of features that the server had counted as written then: others change that';
insert into etl.published default values;

-- A record may be rejected only because another one was: an order, because its customer
-- was. Such rejects come after all others, and name the record that they follow from.
create table etl.rejects (
    run_id         bigint  not null references etl.runs on delete cascade,
    file           text    not null,
    line           bigint  not null,
    id             bigint  generated always as identity,
    column_name    text,
    value          text,
    reason         text    not null,
    message        text    not null,
    record         text    not null,
    keys           jsonb,
    rule           text,
    cause_file     text,
    cause_line     bigint,
    is_consequence boolean not null
    generated always as (cause_file is not null) stored,
    primary key (run_id, is_consequence, file, line, id)
);
comment on table etl.rejects is 'Records that a run left out: one row per error';
comment on column etl.rejects.run_id is 'The run';
comment on column etl.rejects.file is 'The file';
comment on column etl.rejects.line is 'Line where the record starts, from 1';
comment on column etl.rejects.id is 'Distinguishes the errors of one record';
comment on column etl.rejects.column_name is
'Columns at fault, null for the whole record';
comment on column etl.rejects.value is
'Their values, without spaces and tabs around them';
comment on column etl.rejects.reason is 'What is wrong, in one word';
comment on column etl.rejects.message is 'What is wrong, for people';
comment on column etl.rejects.record is
'The record as in the file, without line end and byte-order mark';
comment on column etl.rejects.keys is
'Valid values of its required columns, by column';
comment on column etl.rejects.rule is
'File of sql/clean that rejected it; null where the record could not be loaded';
comment on column etl.rejects.cause_file is
'File of the rejected record that this one follows from; null for a real cause';
comment on column etl.rejects.cause_line is 'Line of that record';
comment on column etl.rejects.is_consequence is
'Whether it follows from another rejected record';

create schema appended;
comment on schema appended is
'Records that were appended to files, in this run, on their way to staging';

-- What runs leave to later ones. These tables are unlogged, as staging is: whatever
-- loses the rows of staging, a crash or a promoted standby, loses these with them.
create unlogged table etl.loads (
    source      text   primary key,
    run_id      bigint not null references etl.runs,
    engine      text   not null,
    bytes       bigint not null,
    sha256      text   not null,
    records     bigint not null,
    next_line   bigint not null,
    header      text   not null,
    blocks      json   not null,
    long_values json   not null
);
comment on table etl.loads is
'What the tables in staging were loaded from: a row for each that is complete. It '
'lacks only the records that rules of sql/clean have rejected in run_id';
comment on column etl.loads.source is 'Table in staging';
comment on column etl.loads.run_id is 'The last run that used it';
comment on column etl.loads.engine is 'Version of the engine and of the schema then';
comment on column etl.loads.bytes is 'Size of the file';
comment on column etl.loads.sha256 is 'SHA-256 of the file, in hex';
comment on column etl.loads.records is 'Records of the file, with the rejected ones';
comment on column etl.loads.next_line is 'Line after its last one';
comment on column etl.loads.header is
'Digest of what was found out about its columns: more records may say more';
comment on column etl.loads.blocks is 'Its blocks: offset, length, line, lines';
comment on column etl.loads.long_values is
'Values that a warning is about: line, number of lines';

-- A version identifies the content of a table: of staging, the hash of the file and of
-- what rules have rejected; of what is built, the hash of the SQL files that fill it,
-- and of the versions that they read.
create unlogged table etl.results (
    file   text   primary key,
    sha256 text   not null,
    inputs jsonb  not null,
    rows   bigint not null
);
comment on table etl.results is
'SQL files whose result is still there: of sql/build what it wrote, of sql/clean and '
'sql/check that it found so many rows';
comment on column etl.results.file is 'The file, such as build/010_activity.sql';
comment on column etl.results.sha256 is 'SHA-256 of the file, in hex';
comment on column etl.results.inputs is 'Versions of the tables that it reads, by name';
comment on column etl.results.rows is 'Rows that it wrote or found';

create unlogged table etl.last_state (
    singleton boolean primary key default true check (singleton),
    run_id    bigint  not null references etl.runs,
    state     text    not null
);
comment on table etl.last_state is
'The last run that found features as it would have published it; at most one row';
comment on column etl.last_state.singleton is 'Always true: there is at most one row';
comment on column etl.last_state.run_id is 'Number of the run';
comment on column etl.last_state.state is
'Digest of all that it depends on: a run with the same has nothing to do';

create table etl.touched (
    table_name text        not null,
    touched_at timestamptz not null default now(),
    touched_by text        not null default session_user
);
comment on table etl.touched is
'Tables of the pipeline that were written to by others than runs, since the last run: '
'the next one fills them again';
comment on column etl.touched.table_name is 'The table';
comment on column etl.touched.touched_at is 'When the transaction began';
comment on column etl.touched.touched_by is 'The role that did it';

-- COPY takes more than people mean (0x10, NaN, today), and once a value is loaded its
-- text is gone. So the bytes of a file are matched with regular_pattern first: what
-- matches is a value of the type, and COPY may take it. All else goes the slow path,
-- where SQL holds it against pattern. Python matches regular_pattern and skeleton.
create table etl.type_formats (
    type            regtype primary key,
    pattern         text not null,
    regular_pattern text not null,
    skeleton        text,
    padding         text,
    meaning         text not null
);
comment on table etl.type_formats is 'What people write for a value of a type';
comment on column etl.type_formats.type is 'The type';
comment on column etl.type_formats.pattern is 'Regular expression for its values';
comment on column etl.type_formats.regular_pattern is
'The same for values that COPY may take as they are';
comment on column etl.type_formats.skeleton is
'The same with 0 for each digit; null where it matters which digits they are';
comment on column etl.type_formats.padding is
'The end of a value that adds nothing and is removed, as .0 of a whole number';
comment on column etl.type_formats.meaning is 'The pattern in words, for messages';

insert into etl.type_formats (
    type, pattern, regular_pattern, skeleton, padding, meaning
)
select
    integers.type,
    '[+-]?[0-9]+(?:\.0+)?' as pattern,
    integers.regular_pattern,
    integers.skeleton,
    '\.0+$' as padding,
    'a whole number' as meaning
from (
    values
    ('smallint'::regtype, '[+-]?[0-9]{1,4}', '[+-]?0{1,4}'),
    ('integer'::regtype, '[+-]?[0-9]{1,9}', '[+-]?0{1,9}'),
    (
        'bigint'::regtype,
        '[+-]?(?:[0-9]{1,18}(?![0-9])|[1-8][0-9]{18})',
        '[+-]?0{1,18}'
    )
) as integers (type, regular_pattern, skeleton)
union all
select
    fractions.type,
    '[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?' as pattern,
    '[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?' as regular_pattern,
    '[+-]?0{1,30}(?:\.0{1,30})?' as skeleton,
    null as padding,
    'a number' as meaning
from (
    values ('real'::regtype), ('double precision'::regtype), ('numeric'::regtype)
) as fractions (type)
union all
select
    moments.type,
    '[0-9]{4}-[0-9]{2}-[0-9]{2}' || moments.time_pattern as pattern,
    '[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])'
    '|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)'
    || moments.regular_time as regular_pattern,
    null as skeleton,
    null as padding,
    moments.meaning
from (
    select
        'date'::regtype as type,
        '' as time_pattern,
        '' as regular_time,
        'a date written YYYY-MM-DD' as meaning
    union all
    select
        times.type,
        '[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?'
        '(?: ?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?))?' as time_pattern,
        '[ T](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?Z?'
            as regular_time,
        'a time written YYYY-MM-DD hh:mm:ss' as meaning
    from (values ('timestamp'::regtype), ('timestamptz'::regtype)) as times (type)
) as moments;

-- What a pipeline declares of its tables.
create table etl.list_columns (
    source       text    not null,
    column_name  text    not null,
    element_type regtype not null references etl.type_formats,
    separator    text    not null check (separator ~ '^[;,:/|#&+!_]$'),
    meaning      text    not null,
    primary key (source, column_name)
);
comment on table etl.list_columns is
'Columns of text that hold lists: the elements are values of a type';
comment on column etl.list_columns.source is 'Table in staging';
comment on column etl.list_columns.column_name is 'Column of it';
comment on column etl.list_columns.element_type is 'Type of the elements';
comment on column etl.list_columns.separator is 'Character between two elements';
comment on column etl.list_columns.meaning is 'What an element is, for messages';

create table etl.built_tables (
    target regclass primary key
);
comment on table etl.built_tables is
'Tables that sql/build fills beside features_next, which are emptied before it does';
comment on column etl.built_tables.target is 'The table';
