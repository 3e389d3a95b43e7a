-- Shows that features is filled: which run filled it, and its first rows.
-- reads:  etl.published, features
select
    published.run_id,
    published.published_at,
    (select count(*) from features) as total_rows
from etl.published as published;

select
    user_id,
    name,
    email,
    signup_date,
    total_experiments,
    avg_experiments,
    experiments_pct,
    most_common_compound_id,
    most_common_compound_name
from features
order by user_id
limit 20;
