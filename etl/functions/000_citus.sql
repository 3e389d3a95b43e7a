-- What the engine does where Citus has distributed tables. All of it is in plpgsql,
-- which reads a statement when it runs: where there is no Citus, none of these does.

-- Whether Citus has distributed a table, or made it a reference table.
create or replace function etl.is_distributed(target regclass) returns boolean
language plpgsql stable as $$
begin
    if to_regclass('pg_dist_partition') is null then
        return false;
    end if;
    return exists (
        select 1 from pg_dist_partition as tables where tables.logicalrelid = target
    );
end;
$$;

-- Takes away the triggers that note who writes to a table: Citus distributes none that
-- has one.
create or replace function etl.unguard_tables() returns void
language plpgsql as $$
declare
    guarded regclass;
begin
    for guarded in
        select triggers.tgrelid
        from pg_trigger as triggers
        where triggers.tgname = 'etl_note_touch'
    loop
        execute format('drop trigger etl_note_touch on %s', guarded);
    end loop;
end;
$$;

-- The nodes that hold rows of distributed tables.
create or replace function etl.shard_nodes()
returns table (host text, port integer)
language plpgsql stable as $$
begin
    return query
    select
        nodes.nodename,
        nodes.nodeport
    from pg_dist_node as nodes
    where
        nodes.noderole = 'primary'
        and nodes.isactive
        and nodes.shouldhaveshards
        and nodes.metadatasynced
    order by nodes.nodeid;
end;
$$;

-- Keeps no connection to a node after this transaction. Citus opens one for each
-- run_command_on_all_nodes and renames its session; where that is cancelled, it would
-- keep the connection for other statements, and refuse these: "cannot modify … because
-- it is a shard".
create or replace function etl.keep_no_connection() returns void
language plpgsql as $$
begin
    perform set_config('citus.max_cached_conns_per_worker', '0', true);
end;
$$;

-- Keeps the loaders of all runs but this one out, on every node: terminates those that
-- are still there, and waits for their transactions, which share a lock on the row of
-- etl.loading. One that comes later finds another run there. The table is each node's
-- own: to lock a row of a reference table, nodes would wait for each other. It is
-- unlogged, as those of staging are: where a crash has emptied it, it has emptied them.
create or replace function etl.admit_loaders(run_id bigint) returns void
language plpgsql as $$
declare
    failed text;
begin
    perform etl.keep_no_connection();
    select string_agg(format('node %s: %s', nodes.nodeid, nodes.result), '; ')
    into failed
    from run_command_on_all_nodes(
        format(
            $c$
            do $d$
            begin
                perform pg_terminate_backend(pid)
                from pg_stat_activity
                where
                    datname = current_database()
                    and application_name = 'features-etl load';
                create unlogged table if not exists
                etl.loading (run_id bigint not null);
                update etl.loading set run_id = %1$s;
                if not found then
                    insert into etl.loading (run_id) values (%1$s);
                end if;
            end;
            $d$
            $c$,
            admit_loaders.run_id
        )
    ) as nodes
    where not nodes.success;
    if failed is not null then
        raise '%', failed using errcode = 'connection_exception';
    end if;
end;
$$;

-- Whether all nodes still have the rows that runs have left there, or this run has
-- loaded, if it is given: none has crashed since. True where nothing is distributed.
create or replace function etl.nodes_have_rows(
    run_id bigint default null
) returns boolean
language plpgsql as $$
begin
    if not exists (
        select 1 from etl.sources where etl.is_distributed(sources.target)
    ) then
        return true;
    end if;
    perform etl.keep_no_connection();
    return (
        select bool_and(nodes.success and nodes.result = '1')
        from run_command_on_all_nodes(
            format(
                'select count(*) from etl.loading where run_id = coalesce(%L, run_id)',
                nodes_have_rows.run_id
            )
        ) as nodes
    );
end;
$$;

-- Raises where a node has crashed during a run: it may have read tables without rows.
create or replace function etl.require_rows_of_nodes(run_id bigint) returns void
language plpgsql as $$
begin
    if not etl.nodes_have_rows(run_id) then
        raise 'a node of Citus restarted during the run, without its rows: run again'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
end;
$$;
