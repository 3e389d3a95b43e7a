-- Every experiment is of a user whom users.csv names; those of users whose record was
-- rejected are gone by now, see sql/clean/030. Looked at once the build has brought
-- each user's experiments together: a million users are matched in a tenth of the time
-- that ten million experiments take. Where there is no user at all, though features is
-- full, sql/check/010 has the better word, unless the run lets that through. A record
-- of users.csv that was rejected without a valid key may be that of any such user: the
-- message names it.
-- after:  build/010_activity.sql
-- reads:  staging.users, staging.user_experiments, activity_next, features, etl.runs,
--         etl.rejects
-- writes: etl.found
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
        end as words
    from etl.rejected_records('users.csv') as rejected
    where rejected.keys ->> 'user_id' is null
)

insert into etl.found (source, row_id, column_name, value, reason, message)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'user_id' as column_name,
    experiments.user_id::text as value,
    'unknown_user' as reason,
    case
        when exists (select from staging.users)
            then format(
                'no record of users.csv with user_id %s was taken%s',
                experiments.user_id,
                (select keyless.words from keyless)
            )
        else 'users.csv has no record that was taken'
    end as message
from staging.user_experiments as experiments
where
    experiments.user_id in (
        select activity.user_id
        from activity_next as activity
        where not activity.is_known
    )
    and (
        exists (select from staging.users)
        or not exists (select from features)
        or (select etl.allows_empty())
    );
