-- One run at a time, and no process of a dead run left. Two advisory locks, both in
-- class 6648940 (the bytes of "etl"): 1 is held by the leader, the one connection that
-- leads a run, and 2 is shared by all connections that work for it.

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

-- The one lock that readers wait for. Temporary tables are locked by who made them.
create or replace view etl.locked_tables as
select distinct tables.oid::regclass::text as name
from pg_locks as locks
inner join pg_database as databases on locks.database = databases.oid
inner join pg_class as tables on locks.relation = tables.oid
where
    databases.datname = current_database()
    and locks.mode = 'AccessExclusiveLock'
    and locks.granted
    and tables.relkind in ('r', 'p', 'v', 'm', 'f')
    and tables.relpersistence <> 't'
order by name;
comment on view etl.locked_tables is 'Tables and views that nobody else can read now';

-- Who waits for a row has locked it already, against all others that wait; that lock
-- alone knows the table.
create or replace view etl.lock_waits as
select
    coalesce(
        coalesce(waiting.relation, rows.relation)::regclass::text, waiting.locktype
    )
    || ' is locked by '
    || string_agg(
        coalesce(
            'process ' || holders.pid || ' ('
            || concat_ws(
                ', ', nullif(holders.application_name, ''), 'user ' || holders.usename
            )
            || ')',
            'a prepared transaction'
        ),
        ', ' order by holders.pid
    ) as description
from etl.locks as ours
inner join pg_locks as waiting on ours.pid = waiting.pid and not waiting.granted
left join pg_locks as rows
    on ours.pid = rows.pid and rows.locktype = 'tuple' and rows.granted
cross join lateral unnest(pg_blocking_pids(ours.pid)) as blocking (pid)
left join pg_stat_activity as holders on blocking.pid = holders.pid
where blocking.pid not in (select locks.pid from etl.locks)
group by ours.pid, waiting.relation, rows.relation, waiting.locktype;
comment on view etl.lock_waits is
'What a run waits for now, and who has locked it: tables, rows of them, or else';

-- A run as it is now: interrupted if its leader is gone, whatever its row says. The
-- given row may be older than the lock is free. So where the lock is free, the row is
-- read again, which a volatile function does in a snapshot of its own.
create or replace function etl.current_run(given etl.runs) returns etl.runs
language plpgsql volatile as $$
begin
    if given.state <> 'running' or exists (
        select 1 from etl.locks as locks
        where locks.leads and locks.pid = given.backend_pid
    ) then
        return given;
    end if;
    select * into given from etl.runs where id = given.id;
    if given.state = 'running' then
        given.state := 'interrupted';
        given.error := 'interrupted: the service that led it, or its connection, ended';
    end if;
    return given;
end;
$$;

create or replace view etl.run_records as
select
    runs.id,
    current_run.state,
    current_run.phase,
    runs.started_at,
    current_run.finished_at,
    -- The clock may have been set since it began.
    case
        when current_run.state = 'running'
            then greatest(
                round(extract(epoch from clock_timestamp() - runs.started_at), 3),
                current_run.seconds
            )
        else current_run.seconds
    end as seconds,
    current_run.files,
    current_run.steps,
    current_run.warnings,
    current_run.error,
    runs.dry_run,
    runs.allow_empty,
    runs.full_run,
    runs.unchanged,
    runs.changes
from etl.runs
cross join lateral etl.current_run(runs) as current_run;
comment on view etl.run_records is 'The runs as GET /runs gives them';

-- Takes the lead and begins a run; or, while another one has the lead, does nothing but
-- return the record of that, if it is to be seen yet. Processes that still work for a
-- dead run are terminated first; then lock 2 is held alone, so that no other can attach
-- to that run until it is marked as dead. As the role that logged in, for only that may
-- terminate its processes.
create or replace function etl.begin_run(
    dry         boolean,
    allow_empty boolean,
    is_full     boolean,
    out has_begun boolean,
    out summary json
)
language plpgsql set role to 'none' as $$
declare
    new_id bigint;
begin
    has_begun := pg_try_advisory_lock(6648940, 1);
    if not has_begun then
        select row_to_json(records) into summary
        from etl.run_records as records
        where records.state = 'running';
        return;
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

    -- A number that was given away must not be given again if the server crashes now:
    -- the commit waits for this server's disk, and for no standby.
    perform set_config('synchronous_commit', 'local', true);
    insert into etl.runs (phase, dry_run, allow_empty, full_run)
    values ('load', dry, begin_run.allow_empty, is_full)
    returning id into new_id;
    perform set_config('etl.run_id', new_id::text, false);
    select row_to_json(records) into summary
    from etl.run_records as records
    where records.id = new_id;
end;
$$;
revoke execute on function etl.begin_run(boolean, boolean, boolean) from public;

-- Whether the run in progress was triggered with ?allow_empty=true.
create or replace function etl.allows_empty() returns boolean
language sql stable as $$
    select coalesce(bool_or(runs.allow_empty), false)
    from etl.runs
    where runs.state = 'running';
$$;

-- Called by each connection before it works for a run. It is refused once the run has
-- ended, so that it cannot write to the tables of a later one. Where files of sql/build
-- run in slices, it takes the given one.
create or replace function etl.attach_worker(
    run_id bigint, slice integer default 0, slices integer default 1
) returns void
language plpgsql as $$
begin
    perform pg_advisory_lock_shared(6648940, 2);
    if not exists (
        select 1 from etl.runs where id = run_id and state = 'running'
    ) then
        raise exception 'run % has ended', run_id
            using errcode = 'invalid_transaction_state';
    end if;
    perform
        set_config('etl.run_id', run_id::text, false),
        set_config('etl.slice', slice::text, false),
        set_config('etl.slices', slices::text, false);
end;
$$;

-- Drops what SQL files have made in this session: statements that they have prepared,
-- and what is in its temporary schema. Where nothing of theirs is there, the working
-- tables stay: to make them takes some milliseconds.
create or replace function etl.discard_temp() returns void
language plpgsql as $$
declare
    prepared text;
begin
    for prepared in
        select statements.name
        from pg_prepared_statements as statements
        where statements.from_sql
    loop
        execute format('deallocate %I', prepared);
    end loop;
    if exists (
        select 1
        from pg_depend
        left join pg_class as tables
            on pg_depend.classid = 'pg_class'::regclass and pg_depend.objid = tables.oid
        where
            pg_depend.refclassid = 'pg_namespace'::regclass
            and pg_depend.refobjid = pg_my_temp_schema()
            and coalesce(tables.relname, '') not in (
                'raw_records', 'parsed_records', 'violations', 'pending_rejects'
            )
    ) then
        discard temp;
    end if;
end;
$$;

-- Saves how far a run is, or with another state than running how it ended, and results
-- of SQL files; a run that has ended stays as it is. Returns its record.
create or replace function etl.update_run(
    run_id bigint, new_state text, new_error text, new_phase text,
    new_files json, new_steps json, new_warnings json, is_unchanged boolean,
    new_results json, new_seconds double precision
) returns json
language sql as $$
    -- The end of a run is reported, so a crash of this server must not take it back.
    select set_config('synchronous_commit', 'local', true)
    where new_state <> 'running' and current_setting('synchronous_commit') = 'off';

    select etl.require_rows_of_nodes(run_id)
    where new_state = 'succeeded' and not is_unchanged;

    insert into etl.results (file, sha256, inputs, rows)
    select
        added.file,
        added.sha256,
        added.inputs,
        added.rows
    from json_to_recordset(new_results) as added (
        file text, sha256 text, inputs jsonb, rows bigint
    )
    where exists (select 1 from etl.runs where id = run_id and state = 'running')
    on conflict (file) do update
    set
        sha256 = excluded.sha256,
        inputs = excluded.inputs,
        rows = excluded.rows;

    update etl.runs
    set
        state = new_state,
        finished_at = case when new_state <> 'running' then clock_timestamp() end,
        seconds = round(new_seconds::numeric, 3),
        error = new_error,
        phase = new_phase,
        files = new_files,
        steps = new_steps,
        warnings = new_warnings,
        unchanged = is_unchanged
    where id = run_id and state = 'running';

    select row_to_json(records) from etl.run_records as records where id = run_id;
$$;

-- Terminates what a run that is to end has left at work: a statement may ignore that it
-- was cancelled. As long as the run's leader has its lock, no other run has a process
-- here. Idle connections are spared: they wait in a pool. As the role that logged in,
-- for only that may see what its processes do.
create or replace function etl.terminate_leftover_backends(run_id bigint) returns void
language sql set role to 'none' as $$
    with locks as materialized (
        select * from etl.locks
    )

    select pg_terminate_backend(activities.pid, 5000)
    from etl.runs
    inner join locks as leaders on runs.backend_pid = leaders.pid and leaders.leads
    cross join locks
    inner join pg_stat_activity as activities on locks.pid = activities.pid
    where
        runs.id = run_id
        and activities.state <> 'idle'
        and activities.pid <> pg_backend_pid();
$$;
revoke execute on function etl.terminate_leftover_backends(bigint) from public;

-- Forgets all runs but the newest, the one that filled features, and those with rejects
-- that are still of use.
create or replace function etl.keep_runs(kept integer) returns void
language sql as $$
    delete from etl.runs
    where
        id <= (select max(id) from etl.runs) - kept
        and id is distinct from (select run_id from etl.published)
        and id not in (select loads.run_id from etl.loads)
        and id not in (select last_state.run_id from etl.last_state);
$$;
