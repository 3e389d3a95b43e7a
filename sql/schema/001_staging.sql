-- The raw records, as they are in the files: data/<name>.csv goes to staging.<name>.
-- Unlogged, for they can be loaded again; no autovacuum, for runs fill, analyse and
-- vacuum them themselves. Keys are not null; whatever else is empty in a file is null.
create schema staging;
comment on schema staging is 'One table per CSV file';

create unlogged table staging.users (
    user_id     bigint not null,
    name        text,
    email       text,
    signup_date date
) with (autovacuum_enabled = false);
comment on table staging.users is 'users.csv: one row per user';
comment on column staging.users.user_id is 'Number of the user';
comment on column staging.users.name is 'Name as in the file, not trimmed';
comment on column staging.users.email is 'Address as in the file, not trimmed';
comment on column staging.users.signup_date is 'Day on which the user signed up';

create unlogged table staging.user_experiments (
    experiment_id           bigint not null,
    user_id                 bigint not null,
    experiment_compound_ids text,
    experiment_run_time     double precision
) with (autovacuum_enabled = false);
comment on table staging.user_experiments is
'user_experiments.csv: one row per experiment of a user';
comment on column staging.user_experiments.experiment_id is 'Number of the experiment';
comment on column staging.user_experiments.user_id is 'The user who made it';
comment on column staging.user_experiments.experiment_compound_ids is
'Numbers of the compounds used, separated by semicolons';
comment on column staging.user_experiments.experiment_run_time is 'How long it ran';

create unlogged table staging.compounds (
    compound_id        bigint not null,
    compound_name      text,
    compound_structure text
) with (autovacuum_enabled = false);
comment on table staging.compounds is 'compounds.csv: one row per compound';
comment on column staging.compounds.compound_id is 'Number of the compound';
comment on column staging.compounds.compound_name is 'Name as in the file';
comment on column staging.compounds.compound_structure is 'Sum formula as in the file';

-- The engine holds each element to its type, as it does other values. Of lists that
-- take the slow path it removes spaces and empty elements; the others may begin with
-- spaces, and end in one separator, which the build passes over.
insert into etl.list_columns (source, column_name, element_type, separator, meaning)
values
(
    'user_experiments',
    'experiment_compound_ids',
    'bigint',
    ';',
    'the number of a compound'
);
