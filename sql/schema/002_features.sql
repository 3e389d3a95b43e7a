-- What people read, and what a run fills before it is published.
-- grain:  one row per user of users.csv, with or without experiments
create table features (
    user_id                   bigint primary key,
    name                      text,
    email                     text,
    signup_date               date,
    total_experiments         bigint           not null,
    avg_experiments           double precision not null,
    experiments_pct           double precision not null,
    most_common_compound_id   bigint,
    most_common_compound_name text
);
comment on table features is 'One row per user: how many experiments, on what';
comment on column features.user_id is 'Number of the user';
comment on column features.name is 'Name of the user';
comment on column features.email is 'Address of the user';
comment on column features.signup_date is 'Day on which the user signed up';
comment on column features.total_experiments is
'Number of the user''s experiments, 0 without any';
comment on column features.avg_experiments is
'All experiments divided by all users: the same in every row';
comment on column features.experiments_pct is
'The user''s share of all experiments, from 0 to 1; 0 when there are none at all';
comment on column features.most_common_compound_id is
'The compound named most often in the user''s lists, the lowest number on a tie';
comment on column features.most_common_compound_name is
'Name of that compound, null where compounds.csv lacks it';

-- No key, for rows come faster without; a check asserts it before publish.
create unlogged table features_next (
    like features including comments
) with (autovacuum_enabled = false);
comment on table features_next is 'The coming features, filled by sql/build';
