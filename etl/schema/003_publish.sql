-- Emptying what a run fills, and putting its result in the place of the last one.
-- Both work on what the catalog says: no table of a pipeline is named here but
-- features_next, which a run fills, and features, which people read.

-- Empties every table in the schema staging, and features_next. TRUNCATE makes new
-- files, which costs some milliseconds a table; deleting a few rows costs none.
create function etl.empty_staging() returns void
language plpgsql as $$
declare
    target regclass;
begin
    for target in
        select tables.oid::regclass
        from pg_class as tables
        where
            tables.relkind in ('r', 'p')
            and (
                tables.relnamespace = to_regnamespace('staging')
                or tables.oid = to_regclass('features_next')
            )
        order by tables.oid
    loop
        if pg_relation_size(target) between 1 and 262144 then
            execute format('delete from %s', target);
        else
            execute format('truncate %s', target);
        end if;
    end loop;
end;
$$;

-- Replaces the rows of features by those of features_next, and ends the run, in the
-- caller's transaction: whoever reads sees all of the old or all of the new. Nothing
-- is locked that a reader or a vacuum could wait for. Returns the number of rows.
create function etl.publish(run_id bigint) returns bigint
language plpgsql as $$
declare
    columns text;
    published bigint;
begin
    select string_agg(quote_ident(attributes.attname), ', ' order by attributes.attnum)
    into columns
    from pg_attribute as attributes
    where
        attributes.attrelid = 'features_next'::regclass
        and attributes.attnum > 0
        and not attributes.attisdropped
        and attributes.attgenerated = '';

    -- A foreign key to features looks at the rows when they are all there again.
    set constraints all deferred;
    delete from features;
    execute format(
        'insert into features (%1$s) select %1$s from features_next', columns
    );
    get diagnostics published = row_count;

    update etl.published
    set run_id = publish.run_id, published_at = clock_timestamp();
    update etl.runs
    set state = 'succeeded', finished_at = clock_timestamp()
    where runs.id = publish.run_id and runs.state = 'running';
    if not found then
        raise exception 'run % is over', run_id
            using errcode = 'invalid_transaction_state';
    end if;
    return published;
end;
$$;
