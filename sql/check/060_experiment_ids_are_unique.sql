-- No two experiments have the same number. Where the numbers lie close together, a bit
-- for each says so; where they are far apart, they are sorted, which takes longer, and
-- on Citus all numbers to one node.
-- reads:  staging.user_experiments
with
numbers as materialized (
    select
        count(*) as total_experiments,
        max(experiments.experiment_id)::numeric - min(experiments.experiment_id)
        < 4 * count(*) as are_close
    from staging.user_experiments as experiments
),

blocks as (
    select
        bit_count(
            bit_or(1::bigint << (experiments.experiment_id & 63)::integer)::bit(64)
        ) as different_ids
    from staging.user_experiments as experiments
    where (select numbers.are_close from numbers)
    group by experiments.experiment_id >> 6
),

different as (
    select sum(blocks.different_ids) as different_ids
    from blocks
    union all
    select nullif(count(distinct experiments.experiment_id), 0) as different_ids
    from staging.user_experiments as experiments
    where not (select numbers.are_close from numbers)
)

select
    numbers.total_experiments,
    different.different_ids
from numbers
inner join different on numbers.total_experiments > different.different_ids;
