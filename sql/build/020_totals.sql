-- The users who have experiments though users.csv lacks them, whose experiments
-- sql/clean rejects; and totals over all others, for averages and shares. A window over
-- all rows would see the rows of its own slice alone.
-- grain:  one row per unknown user; one row of totals
-- reads:  staging.users, activity_next, unknown_users_next
-- writes: unknown_users_next, totals_next
insert into unknown_users_next (user_id, total_experiments)
select
    activity.user_id,
    activity.total_experiments
from activity_next as activity
left join staging.users as users on activity.user_id = users.user_id
where users.user_id is null;

insert into totals_next (total_users, total_experiments)
select
    sum(parts.total_users) as total_users,
    sum(parts.total_experiments) as total_experiments
from (
    select
        count(*) as total_users,
        0 as total_experiments
    from staging.users
    union all
    select
        0 as total_users,
        coalesce(sum(activity.total_experiments), 0) as total_experiments
    from activity_next as activity
    union all
    select
        0 as total_users,
        -coalesce(sum(unknown.total_experiments), 0) as total_experiments
    from unknown_users_next as unknown
) as parts;
