-- What part of all experiments, in percent, the users with the most of them have made.
-- title:  Share of the top users
-- reads:  features
with
-- Users with the same number are counted together: sorting a million takes longer.
counted as (
    select
        features.total_experiments,
        count(*) as users,
        sum(count(*)) over (
            order by features.total_experiments desc
        ) - count(*) as users_before
    from features
    group by features.total_experiments
),

tops as (
    select
        asked.percent,
        (
            select ceil(sum(counted.users) * asked.percent / 100) from counted
        ) as users
    from unnest(array[1, 5, 10, 25, 50]) as asked (percent)
)

select
    'Top ' || tops.percent || '%' as label,
    round(
        coalesce(
            100 * sum(
                counted.total_experiments
                * least(greatest(tops.users - counted.users_before, 0), counted.users)
            ) / nullif(sum(counted.total_experiments * counted.users), 0),
            0
        ),
        1
    ) as value
from tops
cross join counted
group by tops.percent
order by tops.percent;
