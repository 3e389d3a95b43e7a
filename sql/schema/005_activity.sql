-- What sql/build keeps between its files: of each user who stands in
-- user_experiments.csv, what the experiments come to. Rejecting some of another user
-- changes nothing here.
-- grain:  one row per user with experiments, whether users.csv has the user or not
create unlogged table activity_next (
    user_id                 bigint  not null,
    is_known                boolean not null,
    total_experiments       bigint  not null,
    most_common_compound_id bigint
) with (autovacuum_enabled = false);
comment on table activity_next is 'What the experiments of each user come to';
comment on column activity_next.user_id is 'Number of the user';
comment on column activity_next.is_known is 'Whether users.csv has the user';
comment on column activity_next.total_experiments is
'Number of the user''s experiments';
comment on column activity_next.most_common_compound_id is
'The compound named most often in the user''s lists, the lowest number on a tie';

insert into etl.built_tables (target) values ('activity_next');

-- Numbers that no two records of a file share.
insert into etl.unique_keys (source, column_name, rule)
values
('users', 'user_id', 'clean/020_user_ids_are_unique.sql'),
(
    'user_experiments',
    'experiment_id',
    'clean/050_experiment_ids_are_unique.sql'
);
