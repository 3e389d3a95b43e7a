-- What rules found, from staging to etl.rejects. Their rows are kept by the block of
-- the file that they came in, so that each block meets its own rows only: 10,000 rows
-- of a million take 0.7 s to reject, and 5.6 by a look through all for each block.

-- Takes over what rules found; returns how much that is. The lines of odd rows are
-- known, those of others are to be found in their blocks.
create or replace function etl.seek_found() returns bigint
language plpgsql as $$
declare
    target    regclass;
    name      text;
    columns   text;
    key_names text[];
    keys      text;
    more      bigint;
    total     bigint := 0;
begin
    for target in select distinct found.source from etl.found loop
        name := etl.file_of(target);
        select
            string_agg(
                format('records.%I', source_columns.column_name),
                ', '
                order by source_columns.position
            ),
            array_agg(source_columns.column_name order by source_columns.position)
            filter (where source_columns.is_required),
            string_agg(
                format('records.%I::text', source_columns.column_name),
                ', '
                order by source_columns.position
            ) filter (where source_columns.is_required)
        into columns, key_names, keys
        from etl.source_columns
        where source_columns.source || '.csv' = name;
        execute format(
            $f$
            insert into etl.sought (
                file,
                block,
                source,
                row_id,
                content,
                column_name,
                value,
                reason,
                message,
                line,
                record,
                keys,
                cause_file,
                cause_line
            )
            select
                $1 as file,
                rows.block,
                found.source,
                found.row_id,
                rows.content,
                found.column_name,
                found.value,
                found.reason,
                found.message,
                odd.line,
                odd.record,
                rows.keys,
                found.cause_file,
                found.cause_line
            from etl.found
            cross join lateral (
                select
                    records.xmin::text::bigint as block,
                    row(%1$s)::text as content,
                    jsonb_object(%2$L::text[], array[%3$s]::text[]) as keys
                from only %4$s as records
                where records.ctid = found.row_id
                offset 0 -- fetched by its place: a hash join would read all rows
            ) as rows
            left join etl.odd_rows as odd
                on found.source = odd.source and found.row_id = odd.row_id
            where found.source = $2
            $f$,
            columns,
            coalesce(key_names, '{}'),
            keys,
            target
        )
        using name, target;
        get diagnostics more = row_count;
        total := total + more;
    end loop;
    if total < (select count(*) from etl.found) then
        raise 'a rule found rows that are not there: tableoid and ctid name a row';
    end if;
    perform etl.empty_table('etl.found');
    return total;
end;
$$;

-- How many records are to be rejected, by file: for all that is sought, or for what of
-- it has its line. The first record with a key stays; so where a rule finds rows for
-- two reasons, it may be fewer than in the end.
create or replace function etl.count_sought(
    has_line boolean
) returns table (file text, records bigint)
language sql stable as $$
    with
    counted as (
        select
            sought.file,
            sought.source,
            sought.row_id,
            sought.column_name,
            sought.value,
            sought.reason
        from etl.sought
        where not has_line or sought.line is not null
    ),

    rows as (
        select distinct counted.file, counted.source, counted.row_id from counted
    ),

    first_ones as (
        select distinct counted.file, counted.column_name, counted.value
        from counted
        where counted.reason = 'duplicate_key'
    )

    select
        rows.file,
        count(*) - (
            select count(*) from first_ones where first_ones.file = rows.file
        ) as records
    from rows
    group by rows.file;
$$;

-- The same by reason, for all that is sought: one with two reasons counts for each.
create or replace function etl.count_sought_by_reason() returns table (
    file           text,
    reason         text,
    is_consequence boolean,
    records        bigint
)
language sql stable as $$
    with
    rows as (
        select
            sought.file,
            sought.reason,
            sought.cause_file is not null as is_consequence
        from etl.sought
        group by 1, 2, 3, sought.source, sought.row_id
    ),

    first_ones as (
        select distinct sought.file, sought.column_name, sought.value
        from etl.sought
        where sought.reason = 'duplicate_key'
    )

    select
        rows.file,
        rows.reason,
        rows.is_consequence,
        count(*) - case rows.reason
            when 'duplicate_key'
                then (
                    select count(*)
                    from first_ones
                    where first_ones.file = rows.file
                )
            else 0
        end as records
    from rows
    group by rows.file, rows.reason, rows.is_consequence;
$$;

-- Finds the lines of rows that are sought in a block, given records of it. A record is
-- a row's where it reads as what the row holds; of records that are alike, the first is
-- the first row's. Returns how many rows have no line yet. The planner takes what it is
-- given for few, and a nested loop over 20,000 records would not end: so it has none.
create or replace function etl.locate(
    run_id       bigint,
    source       text,
    block        bigint,
    file_columns text[],
    delimiter    text,
    records      text[],
    lines        bigint[]
) returns bigint
language plpgsql set enable_nestloop = off as $$
begin
    execute format(
        $f$
        with
        known_lines as (
            select sought.line
            from etl.sought
            where sought.block = $5 and sought.line is not null
            union all
            select rejects.line
            from etl.rejects
            where
                rejects.run_id = $6
                and rejects.is_consequence in (false, true) -- for the index
                and rejects.file = $7
                and rejects.line between $2[1] and $2[cardinality($2)]
        ),

        split as materialized (
            select
                given.record,
                given.line,
                etl.fields(given.record, $4) as fields
            from unnest($1, $2) as given (record, line)
            where given.line not in (select known_lines.line from known_lines)
        ),

        read as (
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

        held as (
            select
                rows.source,
                rows.row_id,
                rows.content,
                row_number() over (
                    partition by rows.content order by rows.source, rows.row_id
                ) as place
            from (
                select distinct
                    sought.source,
                    sought.row_id,
                    sought.content
                from etl.sought
                where sought.block = $5 and sought.line is null
            ) as rows
        )

        update etl.sought
        set line = read.line, record = read.record
        from held
        inner join read on held.content = read.content and held.place = read.place
        where
            sought.block = $5
            and sought.source = held.source
            and sought.row_id = held.row_id
        $f$,
        etl.casts(source, file_columns)
    )
    using
        records,
        lines,
        file_columns,
        delimiter,
        block,
        run_id,
        source || '.csv';
    return (
        select count(*)
        from etl.sought
        where sought.block = locate.block and sought.line is null
    );
end;
$$;

-- Moves what is sought from staging to etl.rejects, but the first record in the file of
-- those that share a key. Returns how many records that were, by file.
create or replace function etl.reject_sought(
    run_id bigint
) returns table (file text, records bigint)
language plpgsql as $$
declare
    target regclass;
begin
    with
    repeated as materialized (
        select
            sought.ctid as id,
            row_number() over same_key as place,
            first_value(sought.line) over same_key as first_line
        from etl.sought
        where sought.reason = 'duplicate_key'
        window same_key as (
            partition by sought.file, sought.column_name, sought.value collate "C"
            order by sought.line
        )
    ),

    spared as (
        delete from etl.sought
        using repeated
        where sought.ctid = repeated.id and repeated.place = 1
    ),

    told as (
        select
            sought.*,
            sought.message as words
        from etl.sought
        where sought.reason <> 'duplicate_key'
        union all
        select
            sought.*,
            format('line %s has it already', repeated.first_line) as words
        from repeated
        inner join etl.sought on repeated.id = sought.ctid
        where repeated.place > 1
    )

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
        cause_file,
        cause_line
    )
    select
        reject_sought.run_id,
        told.file,
        told.line,
        told.column_name,
        told.value,
        told.reason,
        etl.one_line(told.words),
        told.record,
        told.keys,
        told.cause_file,
        told.cause_line
    from told
    order by told.line;

    for target in select distinct sought.source from etl.sought loop
        execute format(
            $f$
            delete from only %s as records
            where
                records.ctid = any(
                    array(
                        select sought.row_id
                        from etl.sought
                        where sought.source = $1
                    )
                )
            $f$,
            target
        )
        using target;
        get diagnostics records = row_count;
        file := etl.file_of(target);
        return next;
    end loop;
    perform etl.empty_table('etl.sought');
end;
$$;
