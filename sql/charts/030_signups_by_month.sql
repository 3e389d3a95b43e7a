-- Users who signed up in each month, at most the ten years before the last of them.
-- title:  Sign-ups by month
-- reads:  features
with
-- By day first: there are few days, and truncating a date costs more than grouping it.
days as (
    select
        features.signup_date,
        count(*) as users
    from features
    where isfinite(features.signup_date)
    group by features.signup_date
),

months as (
    select
        date_trunc('month', days.signup_date::timestamp) as month,
        sum(days.users) as users
    from days
    group by date_trunc('month', days.signup_date::timestamp)
),

-- A month without sign-ups has its place too.
every_month as (
    select generate_series(span.first_month, span.last_month, '1 month') as month
    from (
        select
            max(months.month) as last_month,
            greatest(
                min(months.month), max(months.month) - interval '119 months'
            ) as first_month
        from months
    ) as span
)

select
    to_char(every_month.month, 'YYYY-MM') as label,
    coalesce(months.users, 0) as value
from every_month
left join months on every_month.month = months.month
order by every_month.month;
