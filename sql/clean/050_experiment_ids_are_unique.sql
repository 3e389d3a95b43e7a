-- No two records of user_experiments.csv have the same experiment_id: of those that
-- obey all rules, the first one stays. Records of unknown users do not count: they are
-- for sql/clean/030 and 040, which come later. Runs in etl.slices.
-- reads:  staging.user_experiments, staging.users
-- writes: etl.found
-- proof:  check/060_experiment_ids_are_unique.sql
select etl.find_repeats('staging.user_experiments', 'experiment_id');

delete from etl.found
using staging.user_experiments as experiments
where
    found.source = experiments.tableoid
    and found.row_id = experiments.ctid
    and not exists (
        select from staging.users as users
        where users.user_id = experiments.user_id
    );
