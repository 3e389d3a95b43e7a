-- No two records of users.csv have the same user_id: the first one stays.
-- reads:  staging.users
-- writes: etl.found
-- proof:  check/020_one_row_per_user.sql
select etl.find_repeats('staging.users', 'user_id');
