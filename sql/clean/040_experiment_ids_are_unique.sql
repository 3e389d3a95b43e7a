-- No two records of user_experiments.csv have the same experiment_id: of those that
-- obey all rules, the first one stays. Records of unknown users do not count: they are
-- for sql/clean/020 and 030, which run after the build.
-- rejects:     user_experiments.experiment_id
-- reason:      duplicate_key
-- keeps:       first
-- verified_by: check/060_experiment_ids_are_unique.sql
-- reads:       staging.user_experiments, staging.users
with
numbered as (
    select
        experiments.experiment_id,
        row_number() over (partition by experiments.experiment_id) as nth
    from staging.user_experiments as experiments
),

repeated as materialized (
    select numbered.experiment_id
    from numbered
    where numbered.nth = 2
)

select distinct
    experiments.experiment_id,
    experiments.user_id
from repeated
inner join staging.user_experiments as experiments
    on repeated.experiment_id = experiments.experiment_id
inner join staging.users as users on experiments.user_id = users.user_id;
