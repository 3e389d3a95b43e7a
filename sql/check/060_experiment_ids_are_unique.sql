-- No two experiments have the same number.
-- reads:  staging.user_experiments
select
    count(*) as total_experiments,
    count(distinct experiments.experiment_id) as different_ids
from staging.user_experiments as experiments
having count(*) > count(distinct experiments.experiment_id);
