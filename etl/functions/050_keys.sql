-- Unique keys. Once a file is loaded, its keys are added up: where they leave no gap,
-- their sum and how many they are tell a repeated one, in 0.04 s of a core per million
-- rows. That none is repeated a check proves, while publish writes and a core is idle.

-- The keys that can be looked at so: not those of a table that partitions make up.
create or replace view etl.watched_keys as
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
comment on view etl.watched_keys is
'Unique keys that are looked at once they are loaded';

comment on column etl.key_ranges.lowest_key is
'The lowest key at the ends of its table';
comment on column etl.key_ranges.highest_key is
'The highest key at the ends of its table';

-- Notes what is seen of the keys of a source, whose file was loaded into a table. Where
-- n keys leave no gap, what they add up to is a multiple of n and the sum of 0 to n-1;
-- where one of them is repeated, it is not. Keys with gaps lie farther apart than n.
-- The outermost ones of a file in order stand at the ends of its table; of any other
-- file, the rows there are a fair sample. (With "or", all rows would be read for them.)
create or replace function etl.note_keys(source text, target regclass) returns void
language plpgsql as $$
declare
    pages      bigint := pg_relation_size(target)
        / current_setting('block_size')::integer;
    key        name;
    total_rows bigint;
    total      numeric;
    is_range   boolean;
    margin     bigint;
    lowest     bigint;
    highest    bigint;
begin
    for key in
        select keys.column_name
        from etl.watched_keys as keys
        where keys.source = note_keys.source
    loop
        execute format('select count(%1$I), sum(%1$I) from %2$s', key, target)
        into total_rows, total;
        is_range := mod(
            total - total_rows::numeric * (total_rows - 1) / 2, total_rows
        ) = 0;
        -- Pages: more than connections add at a time, of which the last stay empty; or
        -- than the blocks fill that end the table, for they are loaded at once.
        margin := case when is_range then 500 else 5000 end;
        execute format(
            $f$
            select
                min(ends.key),
                max(ends.key)
            from (
                select first_rows.%1$I as key
                from %2$s as first_rows
                where first_rows.ctid < $1
                union all
                select last_rows.%1$I as key
                from %2$s as last_rows
                where last_rows.ctid >= $2
            ) as ends
            $f$,
            key,
            target
        )
        into lowest, highest
        using
            format('(%s,0)', margin)::tid,
            format('(%s,0)', greatest(pages - margin, margin))::tid;
        continue when lowest is null;
        insert into etl.key_ranges (
            source,
            column_name,
            total_rows,
            lowest_key,
            highest_key,
            may_repeat
        )
        values (
            note_keys.source,
            key,
            total_rows,
            lowest,
            highest,
            not is_range and total_rows > highest::numeric - lowest
        );
    end loop;
end;
$$;

-- Notes where the statistics of that table tell of a repeated key: the rows that they
-- were taken of had one twice. So one may be seen among keys that leave gaps, too.
create or replace function etl.heed_statistics(
    source text, target regclass
) returns void
language sql as $$
    update etl.key_ranges as ranges
    set may_repeat = true
    from pg_class as tables
    inner join pg_namespace as schemas on tables.relnamespace = schemas.oid
    inner join pg_stats as statistics
        on
            schemas.nspname = statistics.schemaname
            and tables.relname = statistics.tablename
            and not statistics.inherited
    where
        tables.oid = heed_statistics.target
        and ranges.source = heed_statistics.source
        and ranges.column_name = statistics.attname
        and statistics.n_distinct <> statistics.null_frac - 1;
$$;

-- The range of a source's keys, where they lie so close that bits tell repeated ones
-- faster than a sort: eight of them, on average, share the 64 bits of a number.
create or replace function etl.close_range(
    source regclass, key text
) returns etl.key_ranges
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

-- A whole number as one of 64 bits; those of 64 numbers in a row make up a word.
create or replace function etl.bit_of(key bigint) returns bigint
language sql immutable parallel safe as $$
    select 1::bigint << (key & 63)::integer;
$$;

create or replace function etl.total_bits(word bigint) returns bigint
language sql immutable parallel safe as $$
    select bit_count(word::bit(64));
$$;

-- Whether a row of a source has the key of another. Not in slices. Where keys are
-- close, a word has fewer bits than rows where one comes twice: ten million take 1.0 s
-- of a core, and 1.4 to sort.
create or replace function etl.has_repeats(source regclass, key text) returns boolean
language plpgsql stable set enable_sort = off as $$
declare
    answer boolean;
begin
    execute format(
        case
            when etl.close_range(source, key) is null
                then 'select count(%1$I) > count(distinct %1$I) from %2$s'
            else
                $f$
                select exists (
                    select
                    from %2$s as records
                    group by records.%1$I::bigint >> 6
                    having
                        count(records.%1$I)
                        > etl.total_bits(bit_or(etl.bit_of(records.%1$I)))
                )
                $f$
        end,
        key,
        source
    )
    into answer;
    return answer;
end;
$$;

-- Finds all rows of a source whose key another row has too. Counting sorts the keys
-- alone, in a sixth of the time that grouping them takes, so groups are made only where
-- the counts differ. Keys that are whole numbers are shared out between slices.
create or replace function etl.find_all_repeats(source regclass, key text) returns void
language plpgsql as $$
declare
    mine          text := 'true';
    keys          bigint;
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

-- The words that hold repeated keys, with the bits of these. A bit that comes twice is
-- none in the exclusive or; where one comes more often, all bits of the word are given.
-- Each slice has its part of a range of close keys; what lies before and behind it goes
-- to the outer ones.
create or replace function etl.repeated_bits(
    source regclass, close_range etl.key_ranges
) returns table (word bigint, bits bigint)
language plpgsql stable set enable_sort = off as $$
declare
    first_word  bigint := close_range.lowest_key >> 6;
    total_words bigint := (close_range.highest_key >> 6) - first_word + 1;
begin
    return query execute format(
        $f$
        select
            seen.word,
            case
                when
                    seen.total_rows - etl.total_bits(seen.bits)
                    = etl.total_bits(seen.bits & ~seen.odd_bits)
                    then seen.bits & ~seen.odd_bits
                else seen.bits
            end as bits
        from (
            select
                records.%1$I::bigint >> 6 as word,
                count(records.%1$I) as total_rows,
                bit_or(etl.bit_of(records.%1$I)) as bits,
                bit_xor(etl.bit_of(records.%1$I)) as odd_bits
            from %2$s as records
            where
                ($1 is null or records.%1$I >= $1)
                and ($2 is null or records.%1$I < $2)
            group by records.%1$I::bigint >> 6
        ) as seen
        where seen.total_rows > etl.total_bits(seen.bits)
        $f$,
        close_range.column_name,
        source
    )
    using
        case
            when etl.slice() > 0
                then (first_word + total_words * etl.slice() / etl.slices()) * 64
        end,
        case
            when etl.slice() + 1 < etl.slices()
                then (first_word + total_words * (etl.slice() + 1) / etl.slices()) * 64
        end;
end;
$$;

-- Finds all rows of a source whose key another row has too, in slices. Where few words
-- hold some, the other slices have nothing more to do, and their cores help.
create or replace function etl.find_repeats(source regclass, key text) returns void
language plpgsql set max_parallel_workers_per_gather = 0 as $$
declare
    close_range etl.key_ranges := etl.close_range(source, key);
    words       bigint[];
    all_bits    bigint[];
begin
    if close_range.source is null then
        perform etl.find_all_repeats(source, key);
        return;
    end if;
    select
        array_agg(repeated.word order by repeated.word),
        array_agg(repeated.bits order by repeated.word)
    into words, all_bits
    from etl.repeated_bits(source, close_range) as repeated;
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
        inner join unnest(%5$L::bigint[], %6$L::bigint[]) as repeated (word, bits)
            on
                records.%1$I::bigint >> 6 = repeated.word
                and repeated.bits & etl.bit_of(records.%1$I) <> 0
        where records.%1$I between %3$s and %4$s
        $f$,
        key,
        source,
        words[1] * 64,
        words[cardinality(words)] * 64 + 63,
        words,
        all_bits
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
