-- Unique keys in a run, in the place of what 010 and 015 have for them. Once a file is
-- loaded, its keys are looked at as a whole: where they leave no gap, how many they are
-- and what they add up to tells a repeated one, in 0.05 s of a core per million rows. A
-- look while they loaded took 0.14. That none is repeated a check proves, while publish
-- writes and a core is idle.

drop function etl.note_keys() cascade; -- with its triggers on staging
drop function etl.watch_keys(text, regclass);
drop function etl.is_unique(regclass, text);
drop function etl.is_unique_by_now(regclass, text);
drop function etl.few_parts_tell(text, text);
drop function etl.uncertain_parts(text, text);
drop function etl.disorderly_parts(text, text);
drop function etl.find_repeats_of_parts(regclass, text, text);
drop table etl.key_parts;
comment on view etl.watched_keys is
'Unique keys that are looked at once they are loaded';

create unlogged table etl.key_ranges (
    source      text    not null,
    column_name text    not null,
    total_rows  bigint  not null,
    lowest_key  bigint  not null,
    highest_key bigint  not null,
    may_repeat  boolean not null,
    primary key (source, column_name)
) with (autovacuum_enabled = false);
comment on table etl.key_ranges is 'What was seen of the keys of a file: a row a key';
comment on column etl.key_ranges.source is 'The table in staging';
comment on column etl.key_ranges.column_name is 'The column';
comment on column etl.key_ranges.total_rows is 'Its rows, as they were loaded';
comment on column etl.key_ranges.lowest_key is 'The lowest key';
comment on column etl.key_ranges.highest_key is 'The highest key';
comment on column etl.key_ranges.may_repeat is
'Whether one looks repeated: if not, one may yet be, where keys leave gaps';

-- Notes what is seen of the keys of a source, whose file was loaded into a table and
-- analysed. Keys without a gap add up to their number times the mean of the lowest and
-- the highest. Of others the statistics tell, if the rows that they were taken of had
-- one twice.
create function etl.note_keys(source text, target regclass) returns void
language plpgsql as $$
declare
    key name;
begin
    for key in
        select keys.column_name
        from etl.watched_keys as keys
        where keys.source = note_keys.source
    loop
        execute format(
            $f$
            with
            seen as (
                select
                    count(loaded.%1$I) as total_rows,
                    min(loaded.%1$I) as lowest_key,
                    max(loaded.%1$I) as highest_key,
                    sum(loaded.%1$I)::numeric as total
                from %2$s as loaded
            )

            insert into etl.key_ranges (
                source,
                column_name,
                total_rows,
                lowest_key,
                highest_key,
                may_repeat
            )
            select
                $1,
                $2,
                seen.total_rows,
                seen.lowest_key,
                seen.highest_key,
                seen.total_rows > seen.highest_key::numeric - seen.lowest_key + 1
                or (
                    seen.total_rows = seen.highest_key::numeric - seen.lowest_key + 1
                    and seen.total * 2
                    <> seen.total_rows * (seen.highest_key::numeric + seen.lowest_key)
                )
                or exists (
                    select
                    from pg_class as tables
                    inner join pg_namespace as schemas
                        on tables.relnamespace = schemas.oid
                    inner join pg_stats as statistics
                        on
                            schemas.nspname = statistics.schemaname
                            and tables.relname = statistics.tablename
                    where
                        tables.oid = $3
                        and not statistics.inherited
                        and statistics.attname = $2
                        and statistics.n_distinct <> statistics.null_frac - 1
                )
            from seen
            where seen.total_rows > 0
            $f$,
            key,
            target
        )
        using note_keys.source, key, target;
    end loop;
end;
$$;

-- The rules that are to be looked at before the build, though a check would tell: those
-- that found something in the last run, and those of keys that look repeated.
create or replace function etl.rules_in_doubt(run_id bigint) returns setof text
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
    inner join etl.key_ranges as ranges using (source, column_name)
    where ranges.may_repeat;
$$;

-- The range of a source's keys, where they lie so close that bits tell repeated ones
-- faster than a sort: eight of them, on average, share the 64 bits of a number.
create function etl.close_range(source regclass, key text) returns etl.key_ranges
language sql stable as $$
    select ranges.*
    from etl.key_ranges as ranges
    inner join pg_class as tables
        on
            ranges.source = tables.relname
            and tables.relnamespace = to_regnamespace('staging')
    where
        tables.oid = close_range.source
        and ranges.column_name = close_range.key
        and ranges.highest_key::numeric - ranges.lowest_key < ranges.total_rows * 8;
$$;

-- The words that hold a repeated key, in order; null if none does. Each word stands for
-- 64 keys in a row, a bit for each, and fewer bits than keys are set where one comes
-- twice. Ten million take 1.0 s of a core, and 1.4 to sort. Each slice has its part of
-- a range of close keys; what lies before and behind it goes to the outer ones.
create function etl.words_with_repeats(
    source regclass, close_range etl.key_ranges
) returns bigint[]
language plpgsql stable set enable_sort = off as $$
declare
    first_word  bigint := close_range.lowest_key >> 6;
    total_words bigint := (close_range.highest_key >> 6) - first_word + 1;
    words       bigint[];
begin
    execute format(
        $f$
        select array_agg(seen.word order by seen.word)
        from (
            select records.%1$I::bigint >> 6 as word
            from %2$s as records
            where
                ($1 is null or records.%1$I >= $1)
                and ($2 is null or records.%1$I < $2)
            group by records.%1$I::bigint >> 6
            having
                count(records.%1$I) > bit_count(
                    bit_or(1::bigint << (records.%1$I & 63)::integer)::bit(64)
                )
        ) as seen
        $f$,
        close_range.column_name,
        source
    )
    into words
    using
        case
            when etl.slice() > 0
                then (first_word + total_words * etl.slice() / etl.slices()) * 64
        end,
        case
            when etl.slice() + 1 < etl.slices()
                then (first_word + total_words * (etl.slice() + 1) / etl.slices()) * 64
        end;
    return words;
end;
$$;

-- Whether a row of a source has the key of another. Not in slices.
create function etl.has_repeats(source regclass, key text) returns boolean
language plpgsql stable as $$
declare
    close_range etl.key_ranges := etl.close_range(source, key);
    answer      boolean;
begin
    if close_range.source is not null then
        return etl.words_with_repeats(source, close_range) is not null;
    end if;
    execute format('select count(%1$I) > count(distinct %1$I) from %2$s', key, source)
    into answer;
    return answer;
end;
$$;

-- Finds all rows of a source whose key another row has too, in slices. Where few words
-- hold some, the other slices have nothing more to do, and their cores help.
create or replace function etl.find_repeats(source regclass, key text) returns void
language plpgsql set max_parallel_workers_per_gather = 0 as $$
declare
    close_range etl.key_ranges := etl.close_range(source, key);
    words       bigint[];
begin
    if close_range.source is null then
        perform etl.find_all_repeats(source, key);
        return;
    end if;
    words := etl.words_with_repeats(source, close_range);
    if words is null then
        return;
    elsif cardinality(words) < 1000 then
        perform set_config(
            'max_parallel_workers_per_gather', (etl.slices() - 1)::text, true
        );
    end if;
    execute format(
        $f$
        create temporary table suspects as
        select
            records.tableoid as source,
            records.ctid as row_id,
            records.%1$I as key
        from %2$s as records
        where
            records.%1$I between %3$s and %4$s
            and records.%1$I::bigint >> 6 = any(%5$L::bigint[])
        $f$,
        key,
        source,
        words[1] * 64,
        words[cardinality(words)] * 64 + 63,
        words
    );
    insert into etl.found (source, row_id, column_name, value, reason)
    select
        suspects.source,
        suspects.row_id,
        find_repeats.key,
        suspects.key::text,
        'duplicate_key'
    from pg_temp.suspects
    where
        suspects.key in (
            select repeated.key
            from pg_temp.suspects as repeated
            group by repeated.key
            having count(*) > 1
        );
    drop table pg_temp.suspects;
end;
$$;

-- What was found in blocks where it is little and short, so that a search for it leads
-- to its lines: the values by the transaction that loaded them.
create function etl.few_values(
    most_rows integer
) returns table (loaded_by xid, shown_values text[])
language sql stable as $$
    select
        few.loaded_by,
        array_agg(found.value) as shown_values
    from (
        select unplaced.loaded_by
        from etl.found as unplaced
        where unplaced.line is null
        group by unplaced.loaded_by
        having
            count(*) <= most_rows
            and bool_and(coalesce(length(unplaced.value) between 1 and 100, false))
    ) as few
    inner join etl.found on few.loaded_by = found.loaded_by
    where found.line is null
    group by few.loaded_by;
$$;

-- Empties every table in the schema staging, what was built of them, and what a run
-- keeps of itself in the unlogged tables here.
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
        or tables.relnamespace = to_regnamespace('etl')
        and tables.relkind = 'r'
        and tables.relpersistence = 'u';
    perform etl.empty_built();
end;
$$;
