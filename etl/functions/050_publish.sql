-- Publishing: the rows that a run built replace those of the last one, and readers are
-- notified.

-- How many rows of features were ever written, as the server counts them.
create or replace function etl.writes_to_features() returns bigint
language sql volatile as $$
    select
        pg_stat_get_tuples_inserted(features.oid)
        + pg_stat_get_tuples_updated(features.oid)
        + pg_stat_get_tuples_deleted(features.oid)
    from (select to_regclass('features')::oid as oid) as features;
$$;

-- Replaces the rows of features by those of features_next, in the caller's transaction,
-- which ends the run too: readers see all of the old rows or all of the new. Nothing is
-- locked that a reader or a vacuum could wait for. The commit waits for the disk, and
-- notifies who listens: `listen features`, and the payload is the number of the run.
-- Returns the number of rows. Where hashes_rows, what is built does not depend on files
-- and SQL alone, so the digest of its content counts the rows in.
create or replace function etl.publish(
    run_id bigint, new_built text, hashes_rows boolean
) returns bigint
language plpgsql as $$
declare
    row_total     bigint;
    deleted       bigint;
    writes_before bigint := etl.writes_to_features();
begin
    perform set_config('synchronous_commit', 'on', true);
    -- A foreign key to features is checked when all rows are there again.
    set constraints all deferred;
    delete from features;
    get diagnostics deleted = row_count;
    execute format(
        'insert into features (%1$s) select %1$s from features_next',
        etl.written_columns('features_next')
    );
    get diagnostics row_total = row_count;

    update etl.published
    set
        run_id = publish.run_id,
        published_at = clock_timestamp(),
        content = etl.content_of(publish.run_id, hashes_rows),
        built = new_built,
        rows = row_total,
        writes = writes_before + deleted + row_total;
    perform pg_stat_force_next_flush();
    -- With its schema, which a search_path may put last.
    perform pg_catalog.pg_notify('features', publish.run_id::text);
    return row_total;
end;
$$;

-- What a run made features of, as one digest. Of sql/clean, rules that removed nothing
-- do not count: they may run in one run and not in the next, since a check verifies
-- them. (In plpgsql, since features may not be there when this is applied.)
create or replace function etl.content_of(
    published_run bigint, hashes_rows boolean
) returns text
language plpgsql stable as $$
begin
    return (
        with parts as (
            select 'data ' || concat_ws(' ', file ->> 'file', file ->> 'sha256') as part
            from etl.runs
            cross join json_array_elements(runs.files) as files (file)
            where runs.id = published_run
            union
            select 'sql ' || concat_ws(' ', step ->> 'file', step ->> 'sha256') as part
            from etl.runs
            cross join json_array_elements(runs.steps) as steps (step)
            where
                runs.id = published_run
                and (
                    step ->> 'file' like 'build/%'
                    or step ->> 'file' like 'clean/%' and (step ->> 'rows')::bigint > 0
                )
            union
            select 'schema ' || concat_ws(' ', folder, file, sha256) as part
            from etl.applied
            union
            select 'rows ' || sum(hashtextextended(features::text, 0)) as part
            from features
            where hashes_rows
        )

        select left(md5(string_agg(part, e'\n' order by part collate "C")), 20)
        from parts
    );
end;
$$;

-- Saves in the record of a dry run how many rows of features publishing would add,
-- remove and change. Rows are matched by primary key: where there is none, or the build
-- does not fill it, nothing is saved. They are compared as they are stored, by *<>,
-- since a type may have no equality, as json.
create or replace function etl.save_changes(run_id bigint) returns void
language plpgsql as $$
declare
    names       text;
    cast_names  text;
    key         text;
    is_complete boolean;
    found       json;
begin
    with columns as (
        select
            quote_ident(columns.name) as name,
            columns.type,
            columns.key_position is not null as is_key,
            nexts.attnum is not null as is_built
        from etl.feature_columns as columns
        left join pg_attribute as nexts
            on
                columns.name = nexts.attname
                and nexts.attrelid = to_regclass('features_next')
                and nexts.attgenerated = ''
    )

    select
        string_agg(name, ', ') filter (where is_built),
        string_agg(format('%1$s::%2$s as %1$s', name, type), ', ')
        filter (where is_built),
        string_agg(name, ', ') filter (where is_key),
        bool_and(is_built) filter (where is_key)
    into names, cast_names, key, is_complete
    from columns;

    if is_complete then
        -- If features_next is distributed, Citus copies both tables before it joins
        -- them, which it would refuse for more than 1 GB.
        perform set_config('citus.max_intermediate_result_size', '-1', true);
        execute format(
            $c$
            select
                json_build_object(
                    'added', count(*) filter (where present.* is null),
                    'removed', count(*) filter (where nexts.* is null),
                    'changed', count(*) filter (where present.* *<> nexts.*)
                )
            from (select %1$s from features) as present
            full join (select %2$s from features_next) as nexts using (%3$s)
            $c$,
            names, cast_names, key
        )
        into found;
        update etl.runs set changes = found where id = save_changes.run_id;
    end if;
end;
$$;

create or replace view etl.metrics as
select
    extract(epoch from published.published_at)::double precision as published_at,
    published.rows,
    (
        select count(*)
        from etl.run_records
        where run_records.state = 'running'
    ) as runs_under_way
from etl.published;
comment on view etl.metrics is
'What GET /metrics reads from the database: last publish, its rows, running runs';
