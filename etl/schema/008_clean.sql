-- What sql/clean works with: rules find rows of staging, and the engine rejects them.

-- Which share of the rows a connection is to take, and of how many, where a file runs
-- on several at once; the whole where it does not.
create function etl.slice() returns integer
language sql stable as $$
    select coalesce(nullif(current_setting('etl.slice', true), ''), '0')::integer;
$$;

create function etl.slices() returns integer
language sql stable as $$
    select coalesce(nullif(current_setting('etl.slices', true), ''), '1')::integer;
$$;

-- The first page of a slice, as a ctid: slices of a table by its pages are read once.
create function etl.slice_begin(source regclass, slice integer) returns tid
language sql stable as $$
    select format('(%s,0)', pages.total * slice_begin.slice / etl.slices())::tid
    from (
        select
            max(pg_relation_size(tables.oid))
            / current_setting('block_size')::integer as total
        from (
            select source::oid as oid
            union all
            select inhrelid from pg_inherits where inhparent = source
        ) as tables
    ) as pages;
$$;

-- Finds all rows of a source whose key another row has too. Counting sorts the keys
-- alone, in a sixth of the time that grouping them takes, so groups are made only where
-- the counts differ. Keys that are whole numbers are shared out between slices.
create function etl.find_repeats(source regclass, key text) returns void
language plpgsql as $$
declare
    mine     text := 'true';
    keys     bigint;
    distinct_keys bigint;
begin
    if (
        select atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
        from pg_attribute
        where attrelid = source and attname = key
    ) then
        mine := format('abs(%I %% %s) = %s', key, etl.slices(), etl.slice());
    elsif etl.slice() > 0 then
        return;
    end if;

    execute format(
        'select count(%1$I), count(distinct %1$I) from %2$s where %3$s',
        key,
        source,
        mine
    )
    into keys, distinct_keys;
    if keys = distinct_keys then
        return;
    end if;

    set local enable_hashagg = off;
    execute format(
        $f$
        insert into etl.found (source, row_id, column_name, value, reason)
        select
            records.tableoid,
            records.ctid,
            %1$L,
            records.%1$I::text,
            'duplicate_key'
        from %2$s as records
        where records.%1$I in (
            select %1$I from %2$s where %3$s group by %1$I having count(*) > 1
        )
        $f$,
        key,
        source,
        mine
    );
end;
$$;

-- The file that fills a table, or fills the table that it inherits from.
create function etl.file_of(target regclass) returns text
language sql stable as $$
    select sources.relname || '.csv'
    from pg_class as sources
    where
        sources.oid = coalesce(
            (select inhparent from pg_inherits where inhrelid = target), target
        );
$$;

-- Notes for what was found what the row holds, and by which transaction it was loaded:
-- one loads one block of one file. The line of an odd row is known. Of others it is to
-- be found in their blocks: returns these transactions, with the file of each.
create function etl.blocks_of_found() returns table (loaded_by xid, file text)
language plpgsql as $$
declare
    target regclass;
begin
    for target in select distinct found.source from etl.found loop
        execute format(
            $f$
            update etl.found
            set loaded_by = records.xmin, content = row(%s)::text
            from %s as records
            where
                found.source = records.tableoid
                and found.row_id = records.ctid
            $f$,
            (
                select
                    string_agg(
                        format('records.%I', columns.column_name),
                        ', '
                        order by columns.position
                    )
                from etl.source_columns as columns
                where columns.source || '.csv' = etl.file_of(target)
            ),
            target
        );
    end loop;
    update etl.found
    set line = odd.line, record = odd.record
    from etl.odd_rows as odd
    where found.source = odd.source and found.row_id = odd.row_id;

    return query
    select distinct
        found.loaded_by,
        etl.file_of(found.source)
    from etl.found
    where found.line is null;
end;
$$;

-- How many records are to be rejected for what was found, by file; or for what was
-- found and located so far.
create function etl.count_found(
    located boolean
) returns table (file text, records bigint)
language sql stable as $$
    select
        etl.file_of(found.source) as file,
        count(distinct found.row_id) - count(
            distinct case when found.reason = 'duplicate_key' then found.value end
        ) as records
    from etl.found
    where not located or found.line is not null
    group by found.source;
$$;

-- Finds the lines of rows that one transaction loaded, given records of its block. A
-- record is a row's where it reads as what the row holds; of records that are alike,
-- the first is the first row's. To take all apart is slow, so without at_once only
-- those are that show a value which was found. Returns how many rows have no line yet.
-- Nothing here is small for sure, and a nested loop over it would not end.
create function etl.locate(
    run_id       bigint,
    source       text,
    block        xid,
    file_columns text[],
    delimiter    text,
    records      text[],
    lines        bigint[],
    at_once      boolean
) returns bigint
language plpgsql set enable_nestloop = off as $$
declare
    field integer;
begin
    for field in
        select distinct array_position(file_columns, found.column_name)
        from etl.found
        where found.loaded_by = block and found.line is null
    loop
        execute format(
            $f$
            with
            sought as materialized (
                select
                    found.row_id,
                    found.content,
                    found.value
                from etl.found
                where found.loaded_by = $5 and found.line is null
            ),

            split as materialized (
                select
                    given.record,
                    given.line,
                    etl.fields(given.record, $4) as fields
                from unnest($1, $2) as given (record, line)
                where
                    exists (select from sought)
                    and given.line not in (
                        select rejects.line
                        from etl.rejects
                        where
                            rejects.run_id = $7
                            and rejects.file = $8
                            and rejects.line between $2[1] and $2[cardinality($2)]
                    )
                    and given.line not in (
                        select found.line
                        from etl.found
                        where found.loaded_by = $5 and found.line is not null
                    )
                    and (
                        $9
                        or btrim(split_part(given.record, $4, $6), E' \t"') in (
                            select sought.value from sought
                        )
                    )
            ),

            read as materialized (
                select
                    contents.content,
                    split.line,
                    split.record,
                    row_number() over (
                        partition by contents.content order by split.line
                    ) as place
                from split
                cross join lateral (select row(%s)::text as content) as contents
            ),

            held as materialized (
                select
                    rows.row_id,
                    rows.content,
                    row_number() over (
                        partition by rows.content order by rows.row_id
                    ) as place
                from (
                    select distinct sought.row_id, sought.content from sought
                ) as rows
            )

            update etl.found
            set line = read.line, record = read.record
            from held
            inner join read
                on held.content = read.content and held.place = read.place
            where
                found.loaded_by = $5
                and found.row_id = held.row_id
            $f$,
            etl.casts(source, file_columns)
        )
        using
            records,
            lines,
            file_columns,
            delimiter,
            block,
            field,
            run_id,
            source || '.csv',
            at_once;
    end loop;
    return (
        select count(*)
        from etl.found
        where found.loaded_by = block and found.line is null
    );
end;
$$;

-- Moves what was found and located from staging to etl.rejects, but the first record in
-- the file of those that share a key.
create function etl.reject_found(run_id bigint) returns void
language plpgsql as $$
declare
    target regclass;
begin
    with
    ranked as (
        select
            found.ctid as id,
            row_number() over same_key as place,
            first_value(found.line) over same_key as first_line
        from etl.found
        where found.reason = 'duplicate_key'
        window same_key as (
            partition by found.source, found.column_name, found.value
            order by found.line
        )
    ),

    spared as (
        delete from etl.found
        using ranked
        where found.ctid = ranked.id and ranked.place = 1
    )

    update etl.found
    set message = format('line %s has it already', ranked.first_line)
    from ranked
    where found.ctid = ranked.id and ranked.place > 1;

    insert into etl.rejects (
        run_id, file, line, column_name, value, reason, message, record
    )
    select
        reject_found.run_id,
        etl.file_of(found.source) as file,
        found.line,
        found.column_name,
        found.value,
        found.reason,
        etl.one_line(found.message),
        found.record
    from etl.found
    order by found.line;

    for target in select distinct found.source from etl.found loop
        execute format(
            'delete from only %s as records using etl.found'
            ' where found.source = records.tableoid and found.row_id = records.ctid',
            target
        );
    end loop;
    delete from etl.found;
end;
$$;

-- A table for a file with columns that its source lacks: COPY cannot skip them. It
-- inherits from the source, so whoever reads the source sees its rows. The type "char"
-- takes any value and keeps a byte of it. Returns the name of the table; it goes when
-- the next run begins. (A column that is added to the source and dropped again would
-- leave a trace for ever.)
create function etl.widen(source text, more_columns text[]) returns text
language plpgsql as $$
declare
    wide text := 'wide_' || source;
begin
    execute format(
        'create unlogged table etl.%I (%s) inherits (staging.%I)'
        ' with (autovacuum_enabled = false)',
        wide,
        (
            select string_agg(format('%I "char"', more.name), ', ')
            from unnest(more_columns) as more (name)
        ),
        source
    );
    return wide;
end;
$$;

-- Empties every table in the schema staging, features_next and what rules found.
-- TRUNCATE makes new files, which costs some milliseconds a table; deleting a few rows
-- costs none, and a table without a page has nothing to empty.
create or replace function etl.empty_staging() returns void
language plpgsql as $$
declare
    target regclass;
begin
    for target in
        select inheriting.inhrelid::regclass
        from pg_inherits as inheriting
        inner join pg_class as tables on inheriting.inhrelid = tables.oid
        where tables.relnamespace = to_regnamespace('etl')
    loop
        execute format('drop table %s', target);
    end loop;

    for target in
        select tables.oid::regclass
        from pg_class as tables
        where
            tables.relkind in ('r', 'p')
            and (
                tables.relnamespace = to_regnamespace('staging')
                or tables.oid in (
                    to_regclass('features_next'),
                    'etl.found'::regclass,
                    'etl.odd_rows'::regclass
                )
            )
            and (tables.relkind = 'p' or pg_relation_size(tables.oid) > 0)
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

-- Whether no rule found anything in the last run before this one.
create function etl.last_run_was_clean(run_id bigint) returns boolean
language sql stable as $$
    select not exists (
        select
        from json_array_elements(
            (
                select runs.steps
                from etl.runs
                where runs.id < last_run_was_clean.run_id
                order by runs.id desc
                limit 1
            )
        ) as steps (step)
        where
            steps.step ->> 'file' like 'clean/%'
            and (steps.step ->> 'rows')::bigint > 0
    );
$$;
