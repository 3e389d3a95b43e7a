-- An experiment is left out with its user: where a record of the user was rejected and
-- no other one was taken, the message names that record, the first where there are
-- several. The users whom users.csv does not name at all are left for sql/clean/030.
-- rejects:    user_experiments.user_id
-- reason:     rejected_user
-- runs_after: build/010_activity.sql
-- reads:      activity_next, etl.rejects
select distinct on (activity.user_id)
    activity.user_id,
    format(
        'its user is users.csv, line %s, which was rejected: %s',
        rejected.line,
        rejected.message
    ) as message,
    rejected.cause_file,
    rejected.cause_line
from etl.rejected_records('users.csv') as rejected
inner join activity_next as activity
    on (rejected.keys ->> 'user_id')::bigint = activity.user_id
where not activity.is_known
order by activity.user_id, rejected.line;
