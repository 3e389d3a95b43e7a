-- Fills activity_next. Run in slices, each takes the users whose number leaves the
-- remainder etl.slice when divided by etl.slices; without these settings, all users.
-- grain:  one row per user with experiments, whether users.csv has the user or not
-- reads:  staging.users, staging.user_experiments, etl.odd_rows
-- writes: activity_next
with
-- A user's lists as one list: split once per user, not once per experiment.
gathered as (
    select
        experiments.user_id,
        count(*) as total_experiments,
        string_agg(experiments.experiment_compound_ids, ';') as compound_ids
    from staging.user_experiments as experiments
    where
        abs(experiments.user_id % (select etl.slices())) = (select etl.slice())
    group by experiments.user_id
),

-- mode() sorts its input and keeps the first of the most frequent values, so the
-- lowest number wins a tie. It does in a seventh of the time what counting per user
-- and compound, then row_number(), would. An empty element becomes null, which mode()
-- passes over, and a number may have blanks around it. Blanks alone are no number, nor
-- is 1.0 to the cast: both are looked for only where odd records came (saves 0.7 s per
-- million users): elsewhere the cast refuses them, and the run begins anew with every
-- record matched.
counted as (
    select
        gathered.user_id,
        gathered.total_experiments,
        used.compound_id as most_common_compound_id
    from gathered
    cross join lateral (
        select mode() within group (order by named.compound_id) as compound_id
        from (
            select
                unnest(
                    string_to_array(
                        case
                            when
                                exists (select from etl.odd_rows)
                                and gathered.compound_ids ~ '([ \t]|\.0+)(;|$)'
                                then regexp_replace(
                                    gathered.compound_ids,
                                    '(\.0+)?[ \t]*(;|$)',
                                    '\2',
                                    'g'
                                )
                            else gathered.compound_ids
                        end,
                        ';',
                        ''
                    )::bigint[]
                ) as compound_id
        ) as named
    ) as used
)

-- Lists are gathered in the order of users and leave in it, so that users are merged
-- with them. A hash would hold all lists, 180 MB per million users, and be no faster.
insert into activity_next (
    user_id,
    is_known,
    total_experiments,
    most_common_compound_id
)
select
    counted.user_id,
    users.user_id is not null as is_known,
    counted.total_experiments,
    counted.most_common_compound_id
from counted
left join staging.users as users
    on
        counted.user_id = users.user_id
        and abs(users.user_id % (select etl.slices())) = (select etl.slice())
order by counted.user_id;
