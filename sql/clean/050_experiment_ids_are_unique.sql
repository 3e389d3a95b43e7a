-- No two records of user_experiments.csv have the same experiment_id: of those that
-- obey all rules above, the first one stays. Runs in etl.slices.
-- reads:  staging.user_experiments
-- writes: etl.found
-- proof:  check/060_experiment_ids_are_unique.sql
select etl.find_repeats('staging.user_experiments', 'experiment_id');
