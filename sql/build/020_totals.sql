-- Totals over all users, for averages and shares. A window over all rows would see the
-- rows of its own slice alone.
-- grain:  one row
-- reads:  staging.users, activity_next
-- writes: totals_next
insert into totals_next (total_users, total_experiments)
select
    (select count(*) from staging.users) as total_users,
    coalesce(sum(activity.total_experiments), 0) as total_experiments
from activity_next as activity
where activity.is_known;
