-- Fills features_next. Run in slices, each takes the users whose number leaves the
-- remainder etl.slice when divided by etl.slices; without these settings, all users.
-- grain:  one row per user, with or without experiments
-- reads:  staging.users, staging.compounds, activity_next
-- writes: features_next
with
-- Counted once a slice: not materialized, it would be once for every use of a number.
totals as materialized (
    select
        (select count(*) from staging.users) as users,
        (
            select sum(activity.total_experiments)::bigint
            from activity_next as activity
            where activity.is_known
        ) as experiments
)

-- Rows come in the order of their key, whatever the order of users.csv: then publish
-- finds its places in the index of features side by side. That saves 1.4 s per million
-- users of a shuffled file, and costs 0.15.
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
select
    users.user_id,
    nullif(btrim(users.name, E' \t'), '') as name,
    nullif(btrim(users.email, E' \t'), '') as email,
    users.signup_date,
    coalesce(activity.total_experiments, 0) as total_experiments,
    (
        select coalesce(totals.experiments, 0) / totals.users::double precision
        from totals
    ) as avg_experiments,
    coalesce(
        activity.total_experiments / (
            select totals.experiments::double precision from totals
        ),
        0
    ) as experiments_pct,
    activity.most_common_compound_id,
    nullif(btrim(compounds.compound_name, E' \t'), '') as most_common_compound_name
from staging.users as users
left join activity_next as activity
    on
        users.user_id = activity.user_id
        -- saves the other slices' half of the join: 0.4 s per million users
        and abs(activity.user_id % (select etl.slices())) = (select etl.slice())
left join staging.compounds as compounds
    on activity.most_common_compound_id = compounds.compound_id
where
    abs(users.user_id % (select etl.slices())) = (select etl.slice())
order by users.user_id;
