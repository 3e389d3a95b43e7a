-- An experiment is left out with its user: where a record of the user was rejected and
-- no other one was taken, the message names that record. A user may have several
-- rejected records: the first one is named. The users whom users.csv does not name at
-- all are left for sql/clean/040.
-- after:  build/010_activity.sql
-- reads:  staging.user_experiments, activity_next, etl.rejects
-- writes: etl.found
with
rejected_users as materialized (
    select distinct on (activity.user_id)
        activity.user_id,
        rejected.line,
        rejected.message,
        rejected.cause_file,
        rejected.cause_line
    from etl.rejected_records('users.csv') as rejected
    inner join activity_next as activity
        on (rejected.keys ->> 'user_id')::bigint = activity.user_id
    where not activity.is_known
    order by activity.user_id, rejected.line
)

insert into etl.found (
    source,
    row_id,
    column_name,
    value,
    reason,
    message,
    cause_file,
    cause_line
)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'user_id' as column_name,
    experiments.user_id::text as value,
    'rejected_user' as reason,
    format(
        'its user is users.csv, line %s, which was rejected: %s',
        rejected_users.line,
        rejected_users.message
    ) as message,
    rejected_users.cause_file,
    rejected_users.cause_line
from staging.user_experiments as experiments
inner join rejected_users on experiments.user_id = rejected_users.user_id;
