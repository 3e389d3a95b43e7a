-- Publishing: the rows that a run built replace those of the last one, and readers are
-- notified.

-- Replaces the rows of features by those of features_next, in the caller's transaction,
-- which ends the run too: readers see all of the old rows or all of the new. Nothing is
-- locked that a reader or a vacuum could wait for. The commit waits for the disk.
-- Returns the number of rows.
create or replace function etl.publish(run_id bigint) returns bigint
language plpgsql as $$
declare
    columns   text;
    row_total bigint;
begin
    select string_agg(quote_ident(attributes.attname), ', ' order by attributes.attnum)
    into columns
    from pg_attribute as attributes
    where
        attributes.attrelid = 'features_next'::regclass
        and attributes.attnum > 0
        and not attributes.attisdropped
        and attributes.attgenerated = '';

    perform set_config('synchronous_commit', 'on', true);
    -- A foreign key to features is checked when all rows are there again.
    set constraints all deferred;
    delete from features;
    execute format(
        'insert into features (%1$s) select %1$s from features_next', columns
    );
    get diagnostics row_total = row_count;

    update etl.published
    set
        run_id = publish.run_id,
        published_at = clock_timestamp(),
        rows = row_total;
    return row_total;
end;
$$;

-- What a run made features of, as one digest. Of sql/clean, rules that removed nothing
-- do not count: they may run in one run and not in the next, since a check verifies
-- them. A run without files on record has a digest of its own.
create or replace function etl.content_of(published_run bigint) returns text
language sql stable as $$
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
        select 'run ' || concat_ws(' ', runs.id, runs.started_at) as part
        from etl.runs
        where runs.id = published_run and json_array_length(runs.files) = 0
    )

    select
        left(
            encode(
                sha256(
                    convert_to(
                        string_agg(part, e'\n' order by part collate "C"), 'UTF8'
                    )
                ),
                'hex'
            ),
            20
        )
    from parts;
$$;

-- Publish sets the run; this adds the digest that identifies its content.
create or replace function etl.note_published() returns trigger
language plpgsql as $$
begin
    new.content := coalesce(etl.content_of(new.run_id), '');
    return new;
end;
$$;

create or replace trigger note_published before update on etl.published
for each row execute function etl.note_published();

-- Tells whoever listens that features has new rows: `listen features`, and the payload
-- is the number of the run. It is sent by the transaction that publishes, so it comes
-- when the rows are there, and does not when that is rolled back.
create or replace function etl.notify_features() returns trigger
language plpgsql as $$
begin
    perform pg_catalog.pg_notify('features', new.run_id::text);
    return null;
end;
$$;

-- A schema file that brings this row up to date publishes nothing.
create or replace trigger notify_features after update on etl.published
for each row when (old.published_at is distinct from new.published_at)
execute function etl.notify_features();

create or replace view etl.measures as
select
    extract(epoch from published.published_at)::double precision as published_at,
    published.rows,
    (
        select count(*)
        from etl.run_records
        where run_records.state = 'running'
    ) as runs_under_way
from etl.published;
comment on view etl.measures is
'What GET /metrics reads from the database: last publish, its rows, running runs';
