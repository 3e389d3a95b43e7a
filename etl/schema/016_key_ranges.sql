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
-- the highest. Of others the statistics tell, if many are repeated.
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
            insert into etl.key_ranges as ranges
            select
                $1 as source,
                $2 as column_name,
                seen.total_rows,
                seen.lowest_key,
                seen.highest_key,
                seen.total_rows > seen.span
                or (seen.total_rows = seen.span and seen.twice_the_sum <> seen.expected)
                or exists (
                    select
                    from pg_stats as statistics
                    where
                        format(
                            '%%I.%%I', statistics.schemaname, statistics.tablename
                        )::regclass = $3
                        and statistics.attname = $2
                        and statistics.n_distinct <> -1 -- of those that were looked at
                ) as may_repeat
            from (
                select
                    count(*) as total_rows,
                    min(loaded.%1$I) as lowest_key,
                    max(loaded.%1$I) as highest_key,
                    max(loaded.%1$I)::numeric - min(loaded.%1$I) + 1 as span,
                    sum(loaded.%1$I)::numeric * 2 as twice_the_sum,
                    count(*)::numeric * (min(loaded.%1$I)::numeric + max(loaded.%1$I))
                        as expected
                from %2$s as loaded
            ) as seen
            where seen.total_rows > 0
            on conflict (source, column_name) do update
            set
                total_rows = excluded.total_rows,
                lowest_key = excluded.lowest_key,
                highest_key = excluded.highest_key,
                may_repeat = excluded.may_repeat
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

-- Whether keys lie so close that bits tell repeated ones faster than a sort: at least
-- eight, on average, share the 64 bits of a number.
create function etl.are_close(source regclass, key text) returns boolean
language sql stable as $$
    select
        exists (
            select
            from etl.key_ranges as ranges
            inner join pg_class as tables on ranges.source = tables.relname
            where
                tables.oid = are_close.source
                and ranges.column_name = are_close.key
                and ranges.highest_key::numeric - ranges.lowest_key
                < ranges.total_rows * 8
        );
$$;

-- The words that hold a repeated key, in order; null if none does. Each word stands for
-- 64 keys in a row, a bit for each, and fewer bits than keys are set where one comes
-- twice. Ten million take 1.0 s of a core, and 1.4 to sort. Each slice has its part of
-- the range. For keys that are close.
create function etl.words_with_repeats(source regclass, key text) returns bigint[]
language plpgsql stable set enable_sort = off as $$
declare
    ranges etl.key_ranges;
    first_word bigint;
    end_word   bigint;
    words      bigint[];
begin
    select key_ranges.*
    into ranges
    from etl.key_ranges
    inner join pg_class as tables on key_ranges.source = tables.relname
    where
        tables.oid = words_with_repeats.source
        and key_ranges.column_name = words_with_repeats.key;
    first_word := ranges.lowest_key >> 6;
    end_word := (ranges.highest_key >> 6) + 1;
    execute format(
        $f$
        select array_agg(seen.word order by seen.word)
        from (
            select records.%1$I::bigint >> 6 as word
            from %2$s as records
            where records.%1$I between $1 and $2
            group by records.%1$I::bigint >> 6
            having
                count(*) > bit_count(
                    bit_or(1::bigint << (records.%1$I & 63)::integer)::bit(64)
                )
        ) as seen
        $f$,
        key,
        source
    )
    into words
    using
        (first_word + (end_word - first_word) * etl.slice() / etl.slices()) * 64,
        (first_word + (end_word - first_word) * (etl.slice() + 1) / etl.slices() - 1)
        * 64 + 63;
    return words;
end;
$$;

-- Whether a row of a source has the key of another.
create function etl.has_repeats(source regclass, key text) returns boolean
language plpgsql stable as $$
declare
    answer boolean;
begin
    if etl.are_close(source, key) then
        return etl.words_with_repeats(source, key) is not null;
    end if;
    execute format('select count(%1$I) > count(distinct %1$I) from %2$s', key, source)
    into answer;
    return answer;
end;
$$;

-- Finds all rows of a source whose key another row has too, in slices.
create or replace function etl.find_repeats(source regclass, key text) returns void
language plpgsql as $$
declare
    words bigint[];
    before text := current_setting('max_parallel_workers_per_gather');
begin
    if not etl.are_close(source, key) then
        perform etl.find_all_repeats(source, key);
        return;
    end if;
    words := etl.words_with_repeats(source, key);
    if words is null then
        return;
    end if;
    perform set_config(
        'max_parallel_workers_per_gather', (etl.slices() - 1)::text, true
    ); -- for slices without a word are done
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
    perform set_config('max_parallel_workers_per_gather', before, true);
end;
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
            'etl.found'::regclass, 'etl.odd_rows'::regclass, 'etl.key_ranges'::regclass
        );
    perform etl.empty_built();
end;
$$;
