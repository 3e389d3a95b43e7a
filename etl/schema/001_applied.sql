-- Which files this database has: those of a schema run once, and none changes later;
-- functions are replaced when one of their files changes.
-- grain:  one row per file of etl/schema, etl/functions and sql/schema
create schema etl;
comment on schema etl is 'The engine: what was applied, run and published';

create table etl.applied (
    folder     text        not null,
    file       text        not null,
    sha256     text        not null,
    applied_at timestamptz not null default now(),
    primary key (folder, file)
);
comment on table etl.applied is 'SQL files that this database has';
comment on column etl.applied.folder is
'engine (etl/schema), functions (etl/functions) or pipeline (sql/schema)';
comment on column etl.applied.file is 'Name of the file';
comment on column etl.applied.sha256 is 'SHA-256 of the file then, in hex';
comment on column etl.applied.applied_at is 'When it was applied';
