-- What runs keep for later ones: which files staging was loaded from, which results of
-- SQL files are still there, and what makes them worthless.

-- Sessions that work for a run say so; others that write to the tables of a run leave a
-- note. The function has the rights of its owner: they need none on etl.touched.
create or replace function etl.note_touch() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(current_setting('etl.run_id', true), '') = '' then
        insert into etl.touched (table_name)
        values (coalesce(pg_partition_root(tg_relid), tg_relid)::regclass::text);
    end if;
    return null;
end;
$$;

-- Lets the tables of staging and of sql/build notice who else writes to them. Citus
-- takes no trigger on those that it has distributed: there nobody notices.
create or replace function etl.guard_tables() returns void
language plpgsql as $$
declare
    guarded regclass;
begin
    for guarded in
        select filled.target from etl.filled
    loop
        if not etl.is_distributed(guarded) and not exists (
            select 1 from pg_trigger
            where tgrelid = guarded and tgname = 'etl_note_touch'
        ) then
            execute format(
                'create trigger etl_note_touch'
                ' after insert or update or delete or truncate on %s'
                ' for each statement execute function etl.note_touch()',
                guarded
            );
        end if;
    end loop;
end;
$$;

-- What the engine and the schema do to data, and the tables themselves, as one digest:
-- where it differs, nothing that was kept is of use. Spare columns come and go.
create or replace function etl.engine_version(program text) returns text
language sql stable as $$
    with parts as (
        select concat_ws(' ', applied.folder, applied.file, applied.sha256) as part
        from etl.applied
        union all
        select
            concat_ws(
                ' ',
                attributes.attrelid,
                attributes.attnum,
                attributes.attname,
                attributes.atttypid,
                attributes.atttypmod,
                attributes.attnotnull
            ) as part
        from pg_attribute as attributes
        where
            -- An array, so that the planner expects few tables and uses the index.
            attributes.attrelid = any(
                array(
                    select filled.target::oid from etl.filled
                    union all
                    select to_regclass('features')::oid as target
                )
            )
            and attributes.attnum > 0
            and attributes.attname !~ '^skipped_[0-9]+$'
    )

    select
        md5(
            concat_ws(
                e'\n',
                program,
                current_setting('server_version_num'),
                string_agg(parts.part, e'\n' order by parts.part collate "C")
            )
        )
    from parts;
$$;

-- What a SQL file may read beside the tables that runs fill: other tables and views,
-- and functions, unless they are immutable, the engine's or an extension's. Each is
-- there as a text may name it, in lower case without quotes.
create or replace view etl.others as
with others as (
    select
        relations.oid,
        'pg_class'::regclass as catalog,
        relations.relnamespace as schema,
        relations.relname::text as name,
        pg_table_is_visible(relations.oid) as is_visible,
        false as is_function
    from pg_class as relations
    where
        relations.relkind in ('r', 'p', 'v', 'm', 'f')
        and relations.oid <> all(
            array(
                select filled.target from etl.filled
                union all
                select unnest(
                    array[to_regclass('features'), 'etl.runs', 'etl.rejects']
                )
            )
        )
    union all
    select
        functions.oid,
        'pg_proc'::regclass as catalog,
        functions.pronamespace as schema,
        functions.proname::text as name,
        pg_function_is_visible(functions.oid) as is_visible,
        true as is_function
    from pg_proc as functions
    where
        functions.provolatile <> 'i'
        and functions.pronamespace <> all('{pg_catalog,etl}'::regnamespace[])
)

select
    lower(named.name) as name,
    others.is_function
from others
inner join pg_namespace as schemas on others.schema = schemas.oid
cross join
    unnest(
        array[
            schemas.nspname || '.' || others.name,
            case when others.is_visible then others.name end
        ]
    ) as named (name)
where
    schemas.nspname !~ '^pg_'
    and schemas.nspname <> 'information_schema'
    and named.name is not null
    and not exists (
        select 1
        from pg_depend
        where
            pg_depend.classid = others.catalog
            and pg_depend.objid = others.oid
            and pg_depend.deptype = 'e'
    );
comment on view etl.others is
'What SQL files may read beside the tables that runs fill, by name';

-- What this run can build on, as one object, and what describes the pipeline's tables.
-- What others have touched is forgotten, with all that may have been built of it; in a
-- full run, or when a node of Citus has lost its rows, everything is.
create or replace function etl.kept_state(program text, is_full boolean) returns json
language plpgsql as $$
declare
    present text := etl.engine_version(program);
    written text[];
    forgets boolean := is_full or not etl.nodes_have_rows();
begin
    with notes as (
        delete from etl.touched returning touched.table_name
    )

    select coalesce(array_agg(distinct notes.table_name), '{}')
    into written
    from notes;

    if not exists (select 1 from etl.loads where loads.engine = present) then
        perform etl.guard_tables(); -- one may have been made again
    end if;
    delete from etl.loads
    where
        forgets
        or loads.engine <> present
        or 'staging.' || quote_ident(loads.source) = any(written);
    if forgets or cardinality(written) > 0 then
        delete from etl.results;
        delete from etl.last_state;
    end if;
    -- Rows of others may be published, and this run may not get as far as to replace
    -- them. After a crash, which has emptied etl.results too, the server counts writes
    -- to features from zero, and may have counted as many again.
    update etl.published set built = ''
    where built <> '' and not exists (select 1 from etl.results);

    return json_build_object(
        'engine', present,
        'touched', written,
        'columns', (
            select
                json_agg(
                    json_build_array(
                        columns.source,
                        columns.column_name,
                        columns.is_required,
                        columns.is_text,
                        columns.regular_pattern,
                        columns.skeleton,
                        columns.separator
                    )
                    order by columns.source, columns.position
                )
            from etl.source_columns as columns
        ),
        'built_tables', (select json_agg(built.target::text) from etl.built),
        'others', (
            select
                json_build_object(
                    'tables', json_agg(others.name) filter (where not is_function),
                    'functions', json_agg(others.name) filter (where is_function)
                )
            from etl.others
        ),
        'loads', (
            select json_object_agg(loads.source, row_to_json(loads)) from etl.loads
        ),
        'results', (
            select json_object_agg(results.file, row_to_json(results))
            from etl.results
        ),
        -- Unknown where others have written to features since it was published. The
        -- server counts what they write, but for TRUNCATE.
        'published', (
            select published.built
            from etl.published
            where
                published.writes = etl.writes_to_features()
                and exists (select 1 from features) = (published.rows > 0)
        ),
        'unanalyzed', (
            select json_agg(tables.relname)
            from etl.sources
            inner join pg_class as tables on sources.target = tables.oid
            where tables.reltuples < 0
        ),
        'distributed', (
            select json_agg(sources.source)
            from etl.sources
            where etl.is_distributed(sources.target)
        ),
        'last', (
            select
                json_build_object(
                    'state', last_state.state,
                    'files', runs.files,
                    'steps', runs.steps,
                    'warnings', runs.warnings
                )
            from etl.last_state
            inner join etl.runs on last_state.run_id = runs.id
        )
    );
end;
$$;

-- Gives a run the rejects that another one has of a file: those of the file itself, or
-- those of rules too.
create or replace function etl.copy_rejects(
    from_run bigint, to_run bigint, of_file text, with_rules boolean
) returns void
language sql as $$
    insert into etl.rejects (
        run_id,
        file,
        line,
        column_name,
        value,
        reason,
        message,
        record,
        keys,
        rule,
        cause_file,
        cause_line
    )
    select
        to_run,
        rejects.file,
        rejects.line,
        rejects.column_name,
        rejects.value,
        rejects.reason,
        rejects.message,
        rejects.record,
        rejects.keys,
        rejects.rule,
        rejects.cause_file,
        rejects.cause_line
    from etl.rejects
    where
        rejects.run_id = from_run
        and rejects.is_consequence in (false, true)
        and rejects.file = of_file
        and (with_rules or rejects.rule is null)
    order by rejects.id;
$$;

-- Makes a table of staging what it was once its file was loaded: the records that rules
-- have rejected come back, since a rule may not reject them again. The others that were
-- rejected are also rejects of this run. Returns how many records these are. Where more
-- is to be appended, the table does not count as loaded until it is.
create or replace function etl.keep_load(
    run_id       bigint,
    source       text,
    file_columns text[],
    delimiter    text,
    is_appended  boolean
) returns bigint
language plpgsql as $$
declare
    of_file  text := source || '.csv';
    kept_run bigint;
begin
    select loads.run_id into kept_run
    from etl.loads
    where loads.source = keep_load.source;

    if exists (
        select 1
        from etl.rejects
        where
            rejects.run_id = kept_run
            and rejects.is_consequence in (false, true)
            and rejects.file = of_file
            and rejects.rule is not null
    ) then
        perform etl.create_working_tables();
        insert into pg_temp.raw_records (line, record)
        select
            rejects.line,
            rejects.record
        from etl.rejects
        where
            rejects.run_id = kept_run
            and rejects.is_consequence in (false, true)
            and rejects.file = of_file
            and rejects.rule is not null;
        perform etl.parse_records(source, file_columns, delimiter);
        execute etl.insert_of_texts(
            'staging', source, file_columns, 'pg_temp.parsed_records'
        );
    end if;

    perform etl.copy_rejects(kept_run, keep_load.run_id, of_file, false);
    if is_appended then
        delete from etl.loads where loads.source = keep_load.source;
    else
        update etl.loads set run_id = keep_load.run_id
        where loads.source = keep_load.source;
    end if;
    return (
        select count(distinct rejects.line)
        from etl.rejects
        where
            rejects.run_id = keep_load.run_id
            and rejects.is_consequence in (false, true)
            and rejects.file = of_file
    );
end;
$$;

-- Saves which files the tables of staging hold now, each completely: rows of etl.loads.
-- Appended records that are apart join the others.
create or replace function etl.save_loads(new_loads json) returns void
language plpgsql as $$
declare
    target regclass;
    added  regclass;
begin
    for target, added in
        select
            format('staging.%I', loads.source),
            format('appended.%I', loads.source)
        from json_to_recordset(new_loads) as loads (source text, is_apart boolean)
        where loads.is_apart
    loop
        execute format(
            'insert into %1$s (%2$s) select %2$s from %3$s',
            target,
            etl.written_columns(target),
            added
        );
    end loop;
    insert into etl.loads
    select loads.* from json_populate_recordset(null::etl.loads, new_loads) as loads;
end;
$$;

-- Empties the tables of staging whose files are to be loaded again.
create or replace function etl.empty_sources(sources text[]) returns void
language sql as $$
    select etl.empty_table(found.target)
    from etl.sources as found
    where found.source = any(empty_sources.sources);

    delete from etl.loads where loads.source = any(empty_sources.sources);
$$;

-- Forgets the results of SQL files that are to run, and empties the tables that these
-- fill.
create or replace function etl.begin_build(files text[], tables text[]) returns void
language sql as $$
    delete from etl.results where results.file = any(begin_build.files);

    select etl.empty_table(filled.name::regclass)
    from unnest(begin_build.tables) as filled (name);
$$;

-- Prepares a file of sql/build to run for a part of its rows: changes gets the appended
-- records, and the rows that target has with the same keys and now loses.
create or replace function etl.begin_part(
    target text, key_columns text[], changes text, sources text[]
) returns void
language plpgsql as $$
declare
    key   text := (
        select string_agg(quote_ident(names.name), ', ')
        from unnest(key_columns) as names (name)
    );
    added regclass;
begin
    -- Citus analyzes no table in a transaction that has changed a part of it on this
    -- node without a connection.
    perform set_config('citus.enable_local_execution', 'off', true);
    perform etl.empty_table(changes::regclass);
    for added in
        select format('appended.%I', names.source)::regclass
        from unnest(sources) as names (source)
    loop
        execute format(
            'insert into %1$s (%2$s) select %2$s from %3$s',
            changes,
            etl.written_columns(changes::regclass, added),
            added
        );
    end loop;
    execute format('analyze %s', changes);
    execute format(
        'insert into %1$s (%2$s) select %2$s from %3$s'
        ' where (%4$s) in (select %4$s from %1$s)',
        changes,
        etl.written_columns(changes::regclass, target::regclass),
        target,
        key
    );
    execute format(
        'delete from %1$s where (%2$s) in (select %2$s from %3$s)', target, key, changes
    );
end;
$$;

-- Gives this run, which has nothing to do, what the last one has rejected.
create or replace function etl.repeat_last_run(this_run bigint) returns void
language sql as $$
    select etl.copy_rejects(last_state.run_id, this_run, loads.source || '.csv', true)
    from etl.last_state
    cross join etl.loads;

    update etl.loads set run_id = this_run;
    update etl.last_state set run_id = this_run;
    update etl.runs set changes = '{"added": 0, "removed": 0, "changed": 0}'
    where id = this_run and dry_run;
    update etl.published set run_id = this_run
    where not (select runs.dry_run from etl.runs where runs.id = this_run);
$$;
