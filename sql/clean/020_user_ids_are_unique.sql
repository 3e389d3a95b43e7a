-- No two records of users.csv have the same user_id: the first one stays.
-- reads:  staging.users
-- writes: etl.found
select etl.find_repeats('staging.users', 'user_id');
