-- How many users have made how many experiments, those without any included.
-- title:  Users by number of experiments
-- reads:  features
with
counted as (
    select
        features.total_experiments,
        count(*) as users
    from features
    group by features.total_experiments
),

-- Twenty bars at most: where numbers go further, several share one.
bars as (
    select
        bar.number * width.numbers as lowest,
        (bar.number + 1) * width.numbers - 1 as highest
    from (
        select
            max(counted.total_experiments) as most,
            max(counted.total_experiments) / 20 + 1 as numbers
        from counted
    ) as width
    cross join generate_series(0, width.most / width.numbers) as bar (number)
)

select
    case
        when bars.lowest = bars.highest then bars.lowest::text
        else bars.lowest || '-' || bars.highest
    end as label,
    coalesce(sum(counted.users), 0) as value
from bars
left join counted
    on counted.total_experiments between bars.lowest and bars.highest
group by bars.lowest, bars.highest
order by bars.lowest;
