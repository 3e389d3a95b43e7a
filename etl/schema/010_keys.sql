-- Rules in a run: which are in doubt, what is built beside features_next, and keys
-- that are looked at while their file is loaded, when a core has time. Where each part
-- of a file holds higher keys than the parts before it, and none twice, no key is
-- repeated: seen so, ten million need no sort of their own.

create table etl.built_tables (
    target regclass primary key
);
comment on table etl.built_tables is
'Tables that sql/build fills beside features_next: every run empties them';
comment on column etl.built_tables.target is 'The table';

create table etl.unique_keys (
    source      text not null,
    column_name text not null,
    rule        text not null,
    primary key (source, column_name)
);
comment on table etl.unique_keys is 'Whole numbers that no two rows of a source share';
comment on column etl.unique_keys.source is 'The table in staging';
comment on column etl.unique_keys.column_name is 'The column';
comment on column etl.unique_keys.rule is 'The file of sql/clean that sees to it';

create unlogged table etl.key_parts (
    source         text   not null,
    column_name    text   not null,
    place          bigint not null,
    loaded_by      xid[]  not null,
    first_page     bigint not null,
    end_page       bigint not null,
    total_rows     bigint not null,
    different_keys bigint not null,
    lowest_key     bigint not null,
    highest_key    bigint not null
) with (autovacuum_enabled = false);
comment on table etl.key_parts is
'What was seen of the keys in each part of a file: all of its rows or none';
comment on column etl.key_parts.source is 'The table in staging';
comment on column etl.key_parts.column_name is 'The column';
comment on column etl.key_parts.place is 'Place of the part in the file';
comment on column etl.key_parts.loaded_by is 'Transactions that loaded it';
comment on column etl.key_parts.first_page is 'None of its rows is before';
comment on column etl.key_parts.end_page is 'None of its rows is here or behind';
comment on column etl.key_parts.total_rows is 'Its rows';
comment on column etl.key_parts.different_keys is 'Its different keys';
comment on column etl.key_parts.lowest_key is 'The lowest of these';
comment on column etl.key_parts.highest_key is 'The highest of these';

-- The keys that can be looked at so: not those of a table that others make up.
create view etl.watched_keys as
select
    keys.source,
    keys.column_name
from etl.unique_keys as keys
inner join pg_class as tables
    on
        keys.source = tables.relname
        and tables.relnamespace = to_regnamespace('staging')
        and tables.relkind = 'r'
inner join pg_attribute as attributes
    on
        tables.oid = attributes.attrelid
        and keys.column_name = attributes.attname
        and attributes.atttypid in (
            'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype
        );
comment on view etl.watched_keys is 'Unique keys that are looked at while they load';

create function etl.pages_of(target regclass) returns bigint
language sql volatile as $$
    select pg_relation_size(target) / current_setting('block_size')::bigint;
$$;

-- The first page that new rows of a table take, as a rule: it grows by 64 pages at once
-- for each connection that waits. A few rows find room further back.
create function etl.next_page(target regclass) returns bigint
language sql volatile as $$
    select greatest(0, etl.pages_of(target) - 256);
$$;

-- Looks at the keys in what some transactions have loaded into a table, which the
-- source is or which inherits from it: from a page on, and where not all rows are found
-- there, from one further back, or from the first.
create function etl.look_at_keys(
    source      text,
    column_name text,
    target      regclass,
    place       bigint,
    loaded_by   xid[],
    first_page  bigint,
    total_rows  bigint
) returns void
language plpgsql set enable_presorted_aggregate = off as $$
declare
    begin_page bigint;
    found_rows bigint;
begin
    foreach begin_page in array array[first_page, greatest(0, first_page - 8192), 0]
    loop
        execute format(
            $f$
            with
            seen as (
                select
                    count(*) as total_rows,
                    count(distinct records.%1$I) as different_keys,
                    min(records.%1$I) as lowest_key,
                    max(records.%1$I) as highest_key
                from only %2$s as records
                where
                    records.ctid >= format('(%%s,0)', $5)::tid
                    and records.xmin = any($4)
            ),

            kept as (
                insert into etl.key_parts
                select $1, $2, $3, $4, $5, $6, seen.*
                from seen
                where seen.total_rows = $7 and $7 > 0
            )

            select seen.total_rows from seen
            $f$,
            column_name,
            target
        )
        into found_rows
        using
            source,
            column_name,
            place,
            loaded_by,
            begin_page,
            etl.pages_of(target),
            total_rows;
        exit when found_rows = total_rows or begin_page = 0;
    end loop;
end;
$$;

-- Keeps what was seen of a source's keys only where it was seen of all its rows.
create function etl.keep_key_parts(source text, total_rows bigint) returns void
language sql as $$
    delete from etl.key_parts
    where
        key_parts.source = keep_key_parts.source
        and key_parts.column_name in (
            select parts.column_name
            from etl.key_parts as parts
            where parts.source = keep_key_parts.source
            group by parts.column_name
            having sum(parts.total_rows) <> keep_key_parts.total_rows
        );
$$;

-- Parts without which no key is repeated: those that hold one twice, or a lower one
-- than parts before them do; or a higher one than parts behind, where that is less.
create function etl.disorderly_parts(
    source text, column_name text
) returns setof etl.key_parts
language sql stable as $$
    with
    placed as (
        select
            parts as part,
            parts.total_rows,
            parts.total_rows > parts.different_keys as repeats,
            parts.lowest_key <= max(parts.highest_key) over (
                order by parts.place
                rows between unbounded preceding and 1 preceding
            ) as is_low,
            parts.highest_key >= min(parts.lowest_key) over (
                order by parts.place
                rows between 1 following and unbounded following
            ) as is_high
        from etl.key_parts as parts
        where
            parts.source = disorderly_parts.source
            and parts.column_name = disorderly_parts.column_name
    ),

    sides as (
        select
            coalesce(sum(placed.total_rows) filter (where placed.is_low), 0)
            <= coalesce(sum(placed.total_rows) filter (where placed.is_high), 0)
                as low_is_less
        from placed
    )

    select (placed.part).*
    from placed
    cross join sides
    where
        placed.repeats
        or case when sides.low_is_less then placed.is_low else placed.is_high end;
$$;

-- Whether all keys of a source were seen while it was loaded, and none is repeated.
create function etl.is_unique(source regclass, column_name text) returns boolean
language sql stable as $$
    select
        exists (
            select from etl.key_parts as parts
            where
                parts.source = tables.relname
                and parts.column_name = is_unique.column_name
        )
        and not exists (
            select from etl.disorderly_parts(tables.relname, is_unique.column_name)
        )
    from pg_class as tables
    where tables.oid = is_unique.source;
$$;

-- Whether no key of a source is repeated now: what was in disorder is looked at again,
-- for rows may have been rejected since.
create function etl.is_unique_by_now(source regclass, column_name text) returns boolean
language plpgsql as $$
declare
    name text := (select relname from pg_class where oid = source);
    part etl.key_parts;
begin
    if not etl.few_parts_tell(name, column_name) is true then
        return false;
    end if;
    for part in select * from etl.disorderly_parts(name, column_name) loop
        execute format(
            $f$
            update etl.key_parts
            set (total_rows, different_keys, lowest_key, highest_key) = (
                select
                    count(*),
                    count(distinct records.%1$I),
                    coalesce(min(records.%1$I), key_parts.lowest_key),
                    coalesce(max(records.%1$I), key_parts.lowest_key)
                from %2$s as records
                where
                    records.ctid >= format('(%%s,0)', $1)::tid
                    and records.ctid < format('(%%s,0)', $2)::tid
                    and records.xmin = any($3)
            )
            where key_parts.source = $4 and column_name = $5 and place = $6
            $f$,
            column_name,
            source
        )
        using
            part.first_page,
            part.end_page,
            part.loaded_by,
            name,
            column_name,
            part.place;
    end loop;
    return etl.is_unique(source, column_name);
end;
$$;

-- Whether a look at few parts tells which keys are repeated: half of the rows at most.
create function etl.few_parts_tell(source text, column_name text) returns boolean
language sql stable as $$
    select
        coalesce(sum(few.total_rows), 0) * 2 <= (
            select sum(parts.total_rows)
            from etl.key_parts as parts
            where
                parts.source = few_parts_tell.source
                and parts.column_name = few_parts_tell.column_name
        )
    from
        etl.disorderly_parts(
            few_parts_tell.source, few_parts_tell.column_name
        ) as few;
$$;

drop function etl.last_run_was_clean(bigint);

-- The rules that are to be looked at before the build, though a check would tell: those
-- that found something in the last run, and those of keys that look repeated.
create function etl.rules_in_doubt(run_id bigint) returns setof text
language sql stable as $$
    select steps.step ->> 'file'
    from json_array_elements(
        (
            select runs.steps
            from etl.runs
            where runs.id < rules_in_doubt.run_id
            order by runs.id desc
            limit 1
        )
    ) as steps (step)
    where
        steps.step ->> 'file' like 'clean/%'
        and (steps.step ->> 'rows')::bigint > 0
    union
    select keys.rule
    from etl.unique_keys as keys
    where
        exists (select from etl.key_parts)  -- saves a millisecond of a small run
        and etl.few_parts_tell(keys.source, keys.column_name)
        and exists (
            select from etl.disorderly_parts(keys.source, keys.column_name)
        );
$$;

-- Finds all rows of a source whose key another row has too, in slices. What was seen
-- while they were loaded tells that there are none, or where in the file they are. Else
-- all are looked at, as before.
alter function etl.find_repeats(regclass, text) rename to find_all_repeats;
create function etl.find_repeats(source regclass, key text) returns void
language plpgsql as $$
declare
    name text := (select relname from pg_class where oid = source);
begin
    if etl.is_unique(source, key) then
        return;
    elsif not etl.few_parts_tell(name, key) is true then
        perform etl.find_all_repeats(source, key);
    elsif etl.slice() = 0 then
        perform etl.find_repeats_of_parts(source, name, key);
    end if;
end;
$$;

-- Finds the rows whose key a row of the disorderly parts has too: of these parts only
-- keys that others may have, and of the others only those that may have one of them.
create function etl.find_repeats_of_parts(
    source regclass, name text, key text
) returns void
language plpgsql as $$
declare
    part   etl.key_parts;
    others int8multirange;
begin
    create temporary table if not exists key_rows (
        key bigint not null, source regclass not null, row_id tid not null
    ) on commit delete rows;
    for part in select * from etl.disorderly_parts(name, key) loop
        select
            range_agg(
                int8range(
                    parts.lowest_key,
                    nullif(parts.highest_key, 9223372036854775807),
                    '[]'
                )
            )
        into others
        from etl.key_parts as parts
        where
            parts.source = name
            and parts.column_name = key
            and parts.place <> part.place;
        execute format(
            $f$
            insert into pg_temp.key_rows
            select records.%1$I, records.tableoid, records.ctid
            from %2$s as records
            where
                records.ctid >= format('(%%s,0)', $1)::tid
                and records.ctid < format('(%%s,0)', $2)::tid
                and records.xmin = any($3)
                and ($4 or $5 @> records.%1$I::bigint)
            $f$,
            key,
            source
        )
        using
            part.first_page,
            part.end_page,
            part.loaded_by,
            part.total_rows > part.different_keys,
            others;
    end loop;
    analyze pg_temp.key_rows;

    for part in
        select *
        from etl.key_parts as parts
        where
            parts.source = name
            and parts.column_name = key
            and not exists (
                select from etl.disorderly_parts(name, key) as few
                where few.place = parts.place
            )
            and exists (
                select from pg_temp.key_rows
                where key_rows.key between parts.lowest_key and parts.highest_key
            )
    loop
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
            where
                records.ctid >= format('(%%s,0)', $1)::tid
                and records.ctid < format('(%%s,0)', $2)::tid
                and records.xmin = any($3)
                and records.%1$I in (select key_rows.key from pg_temp.key_rows)
            $f$,
            key,
            source
        )
        using part.first_page, part.end_page, part.loaded_by;
    end loop;

    insert into etl.found (source, row_id, column_name, value, reason)
    select
        key_rows.source,
        key_rows.row_id,
        find_repeats_of_parts.key,
        key_rows.key::text,
        'duplicate_key'
    from pg_temp.key_rows
    where
        key_rows.key::text in (
            select found.value from etl.found where found.reason = 'duplicate_key'
        )
        or key_rows.key in (
            select twice.key
            from pg_temp.key_rows as twice
            group by twice.key
            having count(*) > 1
        );
end;
$$;

-- Empties a table. TRUNCATE makes new files, which costs some milliseconds; deleting a
-- few rows costs none, and a table without a page has nothing to empty.
create function etl.empty_table(target regclass) returns void
language plpgsql as $$
declare
    kind "char" := (select relkind from pg_class where oid = target);
begin
    if kind = 'r' and pg_relation_size(target) = 0 then
        return;
    elsif kind = 'r' and pg_relation_size(target) <= 262144 then
        execute format('delete from %s', target);
    else
        execute format('truncate %s', target);
    end if;
end;
$$;

-- Empties what sql/build fills: features_next, and the tables that stand beside it.
create function etl.empty_built() returns void
language sql as $$
    select etl.empty_table(tables.oid)
    from pg_class as tables
    where
        tables.oid = to_regclass('features_next')
        or tables.oid in (select built_tables.target from etl.built_tables);
$$;

-- Empties every table in the schema staging, what was built of them, and what was
-- found.
create or replace function etl.empty_staging() returns void
language plpgsql as $$
declare
    wide regclass;
begin
    for wide in
        select inheriting.inhrelid::regclass
        from pg_inherits as inheriting
        inner join pg_class as tables on inheriting.inhrelid = tables.oid
        where tables.relnamespace = to_regnamespace('etl')
    loop
        execute format('drop table %s', wide);
    end loop;

    perform etl.empty_table(tables.oid)
    from pg_class as tables
    where
        tables.relnamespace = to_regnamespace('staging')
        and tables.relkind in ('r', 'p')
        or tables.oid in (
            'etl.found'::regclass, 'etl.odd_rows'::regclass, 'etl.key_parts'::regclass
        );
    perform etl.empty_built();
end;
$$;
