-- The experiments of each user: how many, and the compound named most often in their
-- lists. mode() sorts and keeps the first of the most frequent values, so the lowest
-- number wins a tie; it passes over nulls, which empty elements are.
-- grain:  one row per user with experiments, whether users.csv has the user or not
-- reads:  staging.user_experiments
-- writes: activity_next
-- redoes: activity_next by activity_changes
-- Runs in slices: each connection takes the users with its remainder. Where experiments
-- were appended, it counts those users alone who have new ones.
insert into activity_next (user_id, total_experiments, most_common_compound_id)
with
lists as (
    select
        experiments.user_id,
        count(*) as total_experiments,
        string_agg(experiments.experiment_compound_ids, ';') as compound_ids
    from staging.user_experiments as experiments
    where
        abs(experiments.user_id % etl.slices()) = etl.slice()
        and (
            etl.builds_all()
            or experiments.user_id in (
                select changes.user_id from activity_changes as changes
            )
        )
    group by experiments.user_id
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
    counted.total_experiments,
    counted.most_common_compound_id
from counted
order by counted.user_id;
