-- Every experiment is of a user whom users.csv names and whose record was taken. Where
-- there is no user at all, though features is full, sql/check/010 has the better word.
-- Runs in etl.slices.
-- reads:  staging.users, staging.user_experiments, features
-- writes: etl.found
-- proof:  check/030_shares_add_up_to_one.sql
insert into etl.found (source, row_id, column_name, value, reason, message)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'user_id' as column_name,
    experiments.user_id::text as value,
    'unknown_user' as reason,
    format('no record of users.csv with user_id %s was taken', experiments.user_id)
        as message
from staging.user_experiments as experiments
where
    experiments.ctid >= etl.slice_begin('staging.user_experiments', etl.slice())
    and experiments.ctid < etl.slice_begin('staging.user_experiments', etl.slice() + 1)
    and not exists (
        select from staging.users as users
        where users.user_id = experiments.user_id
    )
    and (
        exists (select from staging.users)
        or not exists (select from features)
    );
