-- What a run that failed or was cancelled leaves at work in the server.

-- Ends the server processes that still work for a run that is over, or still lead it:
-- a statement may refuse to be cancelled, and its client may have hung up on it. Who
-- leads may end all that work, since there is no other run; connections that only wait
-- for the next one are spared.
create function etl.end_remains(ended bigint) returns void
language sql as $$
    select pg_terminate_backend(locks.pid, 5000)
    from etl.locks
    inner join pg_stat_activity as activities on locks.pid = activities.pid
    cross join (
        select coalesce(bool_or(leaders.pid = pg_backend_pid()), false) as am_leader
        from etl.locks as leaders
        where leaders.leads
    ) as caller
    where
        locks.pid <> pg_backend_pid()
        and case
            when caller.am_leader
                then not locks.leads and activities.state <> 'idle'
            else
                locks.leads
                and locks.pid = (select runs.backend_pid from etl.runs where id = ended)
        end;
$$;
