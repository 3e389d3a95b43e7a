-- The users' shares make up all experiments, so no experiment names an unknown user.
-- How many there are in all, the build has counted: users times their average. To count
-- them again takes 0.4 s for ten million, and is for when there are no users.
-- reads:  features_next, staging.user_experiments
with
counted as (
    select
        coalesce(sum(features_next.total_experiments), 0) as of_known_users,
        coalesce(
            round(max(features_next.avg_experiments) * count(*)),
            (select count(*) from staging.user_experiments)
        ) as in_the_file
    from features_next
)

select
    counted.in_the_file,
    counted.of_known_users
from counted
where counted.in_the_file <> counted.of_known_users;
