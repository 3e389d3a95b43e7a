-- An experiment is left out with its user: where a record of the user was rejected and
-- no other one was taken, the message names that record, the first where there are
-- several. The users whom users.csv does not name at all are left for sql/clean/030.
-- rejects:    user_experiments.user_id
-- reason:     rejected_user
-- runs_after: build/020_totals.sql
-- reads:      unknown_users_next, etl.runs, etl.rejects
select distinct on (unknown.user_id)
    unknown.user_id,
    format(
        'its user is users.csv, line %s, which was rejected: %s',
        rejected.line,
        rejected.message
    ) as message,
    rejected.cause_file,
    rejected.cause_line
from etl.rejected_records('users.csv') as rejected
inner join unknown_users_next as unknown
    on (rejected.keys ->> 'user_id')::bigint = unknown.user_id
order by unknown.user_id, rejected.line;
