-- The record of every run, and of the one that filled features.
create table etl.runs (
    id          bigint generated always as identity primary key,
    state       text        not null default 'running',
    phase       text,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    files       json        not null default '[]',
    steps       json        not null default '[]',
    warnings    json        not null default '[]',
    error       text,
    dry_run     boolean     not null,
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
comment on column etl.runs.files is 'Per CSV file: bytes, sha256, records, rejected';
comment on column etl.runs.steps is 'Per SQL file: file, sha256, rows, milliseconds';
comment on column etl.runs.warnings is 'What should be known and did not stop it';
comment on column etl.runs.error is 'Why it failed, in one line; null when it did not';
comment on column etl.runs.dry_run is 'Whether it did everything but publish';
comment on column etl.runs.backend_pid is 'Server process that leads it';

create table etl.published (
    singleton    boolean primary key default true check (singleton),
    run_id       bigint,
    published_at timestamptz,
    content      text    not null default '',
    columns      text    not null default '',
    is_dated     boolean not null default false,
    rows         bigint
);
comment on table etl.published is 'The run that filled the table features; one row';
comment on column etl.published.singleton is 'Always true: there is one such row';
comment on column etl.published.run_id is 'Number of the run, null before the first';
comment on column etl.published.published_at is 'When it was published';
comment on column etl.published.content is
'Digest of the files of data and SQL that features was made of';
comment on column etl.published.columns is
'etl.feature_columns_digest when it was published';
comment on column etl.published.is_dated is
'Whether the second of published_at tells it from the one before';
comment on column etl.published.rows is 'Rows that were published';
insert into etl.published default values;
