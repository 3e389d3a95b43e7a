-- The users' shares make up all experiments, so no experiment names an unknown user.
-- reads:  features_next, staging.user_experiments
with
counted as (
    select
        (select count(*) from staging.user_experiments) as in_the_file,
        (
            select coalesce(sum(features_next.total_experiments), 0)
            from features_next
        ) as of_known_users
)

select
    counted.in_the_file,
    counted.of_known_users
from counted
where counted.in_the_file <> counted.of_known_users;
