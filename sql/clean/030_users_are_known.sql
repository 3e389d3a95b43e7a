-- Every experiment is of a user whom users.csv names. Those of users whose record was
-- rejected are gone: sql/clean/020 has removed them, and no row has what this rule
-- returns for them. A record of users.csv that was rejected without a valid key may be
-- that of any such user: the message names it. Where there is no user at all, though
-- features is full, sql/check/010 has the better message, unless the run may publish an
-- empty table.
-- rejects:    user_experiments.user_id
-- reason:     unknown_user
-- runs_after: build/020_totals.sql
-- reads:      staging.users, unknown_users_next, features, etl.runs, etl.rejects
with
keyless as (
    select
        case count(*)
            when 0 then ''
            when 1
                then format(
                    ': it may be line %s, which was rejected without a valid user_id',
                    min(rejected.line)
                )
            else format(
                ': it may be one of %s that were rejected without a valid user_id, the '
                'first of them in line %s',
                count(*),
                min(rejected.line)
            )
        end as hint
    from etl.rejected_records('users.csv') as rejected
    where not rejected.keys ? 'user_id'
)

select
    unknown.user_id,
    case
        when exists (select 1 from staging.users limit 1)
            then format(
                'no record of users.csv with user_id %s was taken%s',
                unknown.user_id,
                keyless.hint
            )
        else 'users.csv has no record that was taken'
    end as message
from unknown_users_next as unknown
cross join keyless
where
    exists (select 1 from staging.users limit 1)
    or not exists (select 1 from features limit 1)
    or etl.allows_empty();
