-- The features of each user: experiments, their average over all users, the user's
-- share of them, and the compound used most.
-- grain:  one row per user, with or without experiments
-- reads:  staging.users, staging.compounds, activity_next, totals_next
-- writes: features_next
-- Runs in slices: each connection takes the users with its remainder.
insert into features_next (
    user_id,
    name,
    email,
    signup_date,
    total_experiments,
    avg_experiments,
    experiments_pct,
    most_common_compound_id,
    most_common_compound_name
)
with
slice_of_users as (
    select users.*
    from staging.users as users
    where abs(users.user_id % etl.slices()) = etl.slice()
),

activity as (
    select activity.*
    from activity_next as activity
    where abs(activity.user_id % etl.slices()) = etl.slice()
)

select
    users.user_id,
    nullif(btrim(users.name, E' \t'), '') as name,
    nullif(btrim(users.email, E' \t'), '') as email,
    users.signup_date,
    coalesce(activity.total_experiments, 0) as total_experiments,
    totals.total_experiments / totals.total_users::double precision as avg_experiments,
    coalesce(
        activity.total_experiments / totals.total_experiments::double precision, 0
    ) as experiments_pct,
    activity.most_common_compound_id,
    nullif(btrim(compounds.compound_name, E' \t'), '') as most_common_compound_name
from slice_of_users as users
cross join totals_next as totals
left join activity on users.user_id = activity.user_id
left join staging.compounds as compounds
    on activity.most_common_compound_id = compounds.compound_id
-- In the order of the key: publish then writes the index of features from end to end,
-- whatever the order of users.csv.
order by users.user_id;
