-- What guards a run: one at a time, and nothing left of a dead one. Two advisory locks,
-- both in class 6648940 (the bytes of "etl"): 1 is held by the one connection that
-- leads a run, 2 is shared by every connection that works for it.

create or replace view etl.locks as
select
    locks.pid,
    locks.objid = 1 as leads
from pg_locks as locks
inner join pg_database as databases on locks.database = databases.oid
where
    databases.datname = current_database()
    and locks.locktype = 'advisory'
    and locks.classid = 6648940
    and locks.objid in (1, 2);
comment on view etl.locks is 'Server processes that lead a run, or work for one';

-- A run whose leader is gone was interrupted, whatever its row says.
create or replace view etl.run_records as
select
    runs.id,
    case
        when runs.state = 'running' and locks.pid is null
            then 'interrupted'
        else runs.state
    end as state,
    runs.phase,
    runs.started_at,
    runs.finished_at,
    case
        when runs.state <> 'running' or locks.pid is not null
            then round(
                extract(
                    epoch
                    from coalesce(runs.finished_at, clock_timestamp()) - runs.started_at
                ),
                3
            )
    end as seconds,
    runs.files,
    runs.steps,
    runs.warnings,
    case
        when runs.state = 'running' and locks.pid is null
            then 'interrupted: the service that led it, or its connection, ended'
        else runs.error
    end as error,
    runs.dry_run,
    runs.allow_empty
from etl.runs
left join etl.locks on runs.backend_pid = locks.pid and locks.leads;
comment on view etl.run_records is 'The runs as GET /runs gives them';

-- Takes the lead and begins a run, or returns null while another run has it. What
-- works for a run that died is ended first: the lock that its connections share is
-- waited for, and kept from late comers until the death is on record.
create or replace function etl.begin_run(
    dry boolean, allow_empty boolean
) returns bigint
language plpgsql as $$
declare
    new_id bigint;
begin
    if not pg_try_advisory_lock(6648940, 1) then
        return null;
    end if;

    perform pg_terminate_backend(locks.pid)
    from etl.locks as locks
    where not locks.leads and locks.pid <> pg_backend_pid();
    perform pg_advisory_xact_lock(6648940, 2);

    update etl.runs
    set
        state = 'interrupted',
        finished_at = clock_timestamp(),
        error = 'interrupted: the service that led it, or its connection, ended'
    where state = 'running';

    -- A run whose number was given away is on record though the server dies right now:
    -- its commit waits for this server's disk, and for no standby.
    perform set_config('synchronous_commit', 'local', true);
    insert into etl.runs (dry_run, allow_empty)
    values (dry, begin_run.allow_empty)
    returning id into new_id;
    return new_id;
end;
$$;

-- Whether the run in progress was triggered with ?allow_empty=true.
create or replace function etl.allows_empty() returns boolean
language sql stable as $$
    select coalesce(bool_or(runs.allow_empty), false)
    from etl.runs
    where runs.state = 'running';
$$;

-- Called by each connection that will work for a run, before it does. A connection of
-- a run that is over is refused, so it cannot reach the tables of a later one.
create or replace function etl.join_run(worked_for bigint) returns void
language plpgsql as $$
begin
    perform pg_advisory_lock_shared(6648940, 2);
    if not exists (
        select from etl.runs where id = worked_for and state = 'running'
    ) then
        raise exception 'run % is over', worked_for
            using errcode = 'invalid_transaction_state';
    end if;
end;
$$;

-- Notes how far a run is, and returns its record as GET /runs/{id} gives it.
create or replace function etl.note_run(
    noted bigint, new_phase text, new_files json, new_steps json, new_warnings json
) returns json
language sql as $$
    update etl.runs
    set phase = new_phase, files = new_files, steps = new_steps, warnings = new_warnings
    where id = noted and state in ('running', 'succeeded');

    select row_to_json(records) from etl.run_records as records where id = noted;
$$;

-- Ends a run that did not publish. One that is over already stays as it is.
create or replace function etl.end_run(
    ended bigint, new_state text, reason text
) returns void
language sql as $$
    update etl.runs
    set state = new_state, error = reason, finished_at = clock_timestamp()
    where id = ended and state = 'running';
$$;

-- Ends the server processes that still work for a run that is over, or still lead it:
-- a statement may refuse to be cancelled, and its client may have hung up on it. Who
-- leads may end all that work, since there is no other run; connections that only wait
-- for the next one are spared.
create or replace function etl.end_remains(ended bigint) returns void
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

-- Forgets all runs but the newest and the one that filled features.
create or replace function etl.keep_runs(kept integer) returns void
language sql as $$
    delete from etl.runs
    where
        id <= (select max(id) from etl.runs) - kept
        and id is distinct from (select run_id from etl.published);
$$;
