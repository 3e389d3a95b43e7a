-- The experiments of each user: how many, and the compound named most often in their
-- lists. mode() sorts and keeps the first of the most frequent values, so the lowest
-- number wins a tie; it passes over nulls, which empty elements are.
-- grain:  one row per user with experiments, whether users.csv has the user or not
-- reads:  staging.users, staging.user_experiments
-- writes: activity_next
-- Runs in slices: each connection takes the users with its remainder.
insert into activity_next (
    user_id,
    is_known,
    total_experiments,
    most_common_compound_id
)
with
lists as (
    select
        experiments.user_id,
        count(*) as total_experiments,
        string_agg(experiments.experiment_compound_ids, ';') as compound_ids
    from staging.user_experiments as experiments
    where abs(experiments.user_id % etl.slices()) = etl.slice()
    group by experiments.user_id
),

known_users as (
    select users.user_id
    from staging.users as users
    where abs(users.user_id % etl.slices()) = etl.slice()
),

counted as (
    select
        lists.user_id,
        lists.total_experiments,
        used.compound_id as most_common_compound_id
    from lists
    cross join lateral (
        select mode() within group (order by named.compound_id) as compound_id
        from (
            select
                unnest(
                    string_to_array(lists.compound_ids, ';', '')::bigint[]
                ) as compound_id
        ) as named
    ) as used
)

select
    counted.user_id,
    known_users.user_id is not null as is_known,
    counted.total_experiments,
    counted.most_common_compound_id
from counted
left join known_users on counted.user_id = known_users.user_id
order by counted.user_id;
