-- A user_experiments.csv without records does not set every count to zero.
-- reads:  staging.user_experiments, features
-- overridden_by: allow_empty
select
    'user_experiments.csv' as file,
    sum(features.total_experiments) as published_experiments,
    0 as new_experiments
from features
where not exists (select 1 from staging.user_experiments limit 1)
having sum(features.total_experiments) > 0;
