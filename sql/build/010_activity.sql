-- The experiments of each user: how many, all their lists as one, and the compound that
-- these name most often. mode() sorts and keeps the first of the most frequent values,
-- so the lowest number wins a tie; it passes over nulls, which empty elements are.
-- grain:  one row per user with experiments, whether users.csv has the user or not
-- reads:  staging.user_experiments
-- writes: activity_next
-- redoes: activity_next (user_id) by activity_changes
-- Runs in slices: each connection takes the users with its remainder. Where experiments
-- were appended, activity_changes has them, and what was known of their users before.
insert into activity_next (
    user_id,
    total_experiments,
    experiment_compound_ids,
    most_common_compound_id
)
with
records as (
    select
        experiments.user_id,
        1::bigint as total_experiments,
        experiments.experiment_compound_ids
    from staging.user_experiments as experiments
    where etl.builds_all()
    union all
    select
        changes.user_id,
        changes.total_experiments,
        changes.experiment_compound_ids
    from activity_changes as changes
    where not etl.builds_all()
    order by user_id -- to group them takes little memory then
),

lists as (
    select
        records.user_id,
        sum(records.total_experiments)::bigint as total_experiments,
        string_agg(records.experiment_compound_ids, ';') as experiment_compound_ids
    from records
    where abs(records.user_id % etl.slices()) = etl.slice()
    group by records.user_id
),

counted as (
    select
        lists.user_id,
        lists.total_experiments,
        lists.experiment_compound_ids,
        (
            select mode() within group (order by named.compound_id)
            from (
                select
                    unnest(
                        string_to_array(
                            lists.experiment_compound_ids, ';', ''
                        )::bigint[]
                    ) as compound_id
            ) as named
        ) as most_common_compound_id
    from lists
)

select
    counted.user_id,
    counted.total_experiments,
    counted.experiment_compound_ids,
    counted.most_common_compound_id
from counted
order by counted.user_id;
