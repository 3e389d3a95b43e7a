-- What sql/build keeps between its files: the experiments of each user, and the totals
-- over all users.
create unlogged table activity_next (
    user_id                 bigint not null,
    total_experiments       bigint not null,
    experiment_compound_ids text,
    most_common_compound_id bigint
) with (autovacuum_enabled = false);
comment on table activity_next is 'One row per user in user_experiments.csv';
comment on column activity_next.user_id is 'Number of the user';
comment on column activity_next.total_experiments is
'Number of the user''s experiments';
comment on column activity_next.experiment_compound_ids is
'All lists of the user as one: runs to which experiments are appended go on from it';
comment on column activity_next.most_common_compound_id is
'The compound named most often in the user''s lists, the lowest number on a tie';

create unlogged table activity_changes (
    user_id                 bigint not null,
    total_experiments       bigint not null default 1,
    experiment_compound_ids text
) with (autovacuum_enabled = false);
comment on table activity_changes is
'Appended experiments, and what activity_next had of their users before';
comment on column activity_changes.user_id is 'Number of the user';
comment on column activity_changes.total_experiments is
'1 for an experiment, else the number of the user''s experiments before';
comment on column activity_changes.experiment_compound_ids is
'The list of the experiment, or all lists of the user before, as one';

create unlogged table unknown_users_next (
    user_id           bigint not null,
    total_experiments bigint not null
) with (autovacuum_enabled = false);
comment on table unknown_users_next is
'One row per user in user_experiments.csv whom users.csv lacks';
comment on column unknown_users_next.user_id is 'Number of the user';
comment on column unknown_users_next.total_experiments is
'Number of the user''s experiments';

create unlogged table totals_next (
    total_users       bigint not null,
    total_experiments bigint not null
) with (autovacuum_enabled = false);
comment on table totals_next is 'One row: totals over all users';
comment on column totals_next.total_users is 'Users in users.csv';
comment on column totals_next.total_experiments is 'Experiments of these users';

insert into etl.built_tables (target)
values ('activity_next'), ('unknown_users_next'), ('totals_next');
