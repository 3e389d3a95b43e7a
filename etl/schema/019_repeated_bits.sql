-- Finds many repeated keys among close ones in half of the time that 016 takes.

drop function etl.words_with_repeats(regclass, etl.key_ranges);

-- A whole number as one of 64 bits; those of 64 numbers in a row make up a word.
create function etl.bit_of(key bigint) returns bigint
language sql immutable as $$
    select 1::bigint << (key & 63)::integer;
$$;

create function etl.total_bits(word bigint) returns bigint
language sql immutable as $$
    select bit_count(word::bit(64));
$$;

-- Whether a row of a source has the key of another. Not in slices. Where keys are
-- close, a word has fewer bits than rows where one comes twice: ten million take 1.0 s
-- of a core, and 1.4 to sort.
create or replace function etl.has_repeats(source regclass, key text) returns boolean
language plpgsql stable as $$
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

-- The words that hold repeated keys, with the bits of these. A bit that comes twice is
-- none in the exclusive or; where one comes more often, all bits of the word are given.
-- Each slice has its part of a range of close keys; what lies before and behind it goes
-- to the outer ones.
create function etl.repeated_bits(
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
