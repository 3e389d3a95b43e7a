-- The raw path: records that COPY would refuse, or takes though nobody means them, are
-- taken apart here. The good ones go to staging, the others to etl.rejects.

-- The values of a record with quotes as COPY reads them, with the blanks around quotes;
-- null where a quote stands inside a value, or text after a closing one.
create or replace function etl.quoted_fields(record text, delimiter text) returns text[]
language plpgsql immutable as $$
declare
    blank   text;
    escaped text;
    field   text;
begin
    blank := case delimiter when E'\t' then '[ ]*' else '[ \t]*' end;
    escaped := '\' || delimiter;
    field := format('(?:%1$s"(?:[^"]|"")*"%1$s|[^"%2$s]*)', blank, escaped);
    if record !~ format('^%1$s(?:%2$s%1$s)*$', field, escaped) then
        return null;
    end if;

    return array(
        select
            case
                when position('"' in found.field[1]) = 0 then found.field[1]
                else replace(
                    regexp_replace(found.field[1], '^([^"]*)"(.*)"([^"]*)$', '\1\2\3'),
                    '""',
                    '"'
                )
            end
        from
            regexp_matches(
                record || delimiter, format('(%s)%s', field, escaped), 'g'
            ) with ordinality as found (field, position)
        order by found.position
    );
end;
$$;

-- A value without what line ends and files put together leave at its edges: carriage
-- returns that end no line, the end-of-file character of DOS, byte-order marks.
create or replace function etl.without_marks(value text) returns text
language sql immutable as $$
    select
        regexp_replace(
            regexp_replace(
                value, '^[ \t]*(?:(?:\r(?!\n)|\u001a|\ufeff)[ \t]*)+', ''
            ),
            '(?:[ \t]*[\r\u001a\ufeff])+[ \t]*$',
            ''
        );
$$;

-- The values of any record. Most have no quotes: to take those apart is much cheaper.
create or replace function etl.fields(record text, delimiter text) returns text[]
language sql immutable as $$
    with
    split as (
        select
            case
                when position('"' in record) = 0
                    then string_to_array(record, delimiter)
                else etl.quoted_fields(record, delimiter)
            end as fields
    )

    select
        case
            when split.fields is not null and record ~ '[\r\u001a\ufeff]'
                then array(
                    select etl.without_marks(given.value)
                    from
                        unnest(split.fields)
                        with ordinality as given (value, position)
                    order by given.position
                )
            else split.fields
        end
    from split;
$$;

-- Whether a carriage return is inside a record, and not in quotes: there it ends a line
-- for other programs, and the record is two.
create or replace function etl.has_stray_line_end(record text) returns boolean
language sql immutable as $$
    select
        position(E'\r' in record) > 0
        and position(
            E'\r' in regexp_replace(record, '"(?:[^"]|"")*"', '', 'g')
        ) > 0;
$$;

-- A value as people see it: without the blanks around it.
create or replace function etl.shown(value text) returns text
language sql immutable as $$
    select btrim(value, E' \t');
$$;

-- The values of good fields, cast to the types of their columns: a list for a SELECT
-- that has the array fields. What is blank is null, but text that is more than one tab.
create or replace function etl.casts(source text, file_columns text[]) returns text
language sql stable as $$
    select
        string_agg(
            format(
                case
                    when columns.is_text
                        then $f$nullif(nullif(%s, ''), E'\t')::%s$f$
                    else $f$nullif(%s, '')::%s$f$
                end,
                columns.expression,
                columns.type
            ),
            ', '
            order by columns.place
        )
    from etl.columns_of_file(casts.source, file_columns) as columns;
$$;

-- A message on one line, and not longer than anyone reads.
create or replace function etl.one_line(message text) returns text
language sql immutable as $$
    select regexp_replace(left(message, 300), '[[:cntrl:]]+', ' ', 'g');
$$;

-- A value as a message quotes it: cut, with invisible characters by their code points.
create or replace function etl.quoted(value text) returns text
language sql immutable as $$
    select
        '"' || string_agg(
            case
                when
                    given.letter ~ '[[:cntrl:]\u00a0\u200b-\u200f\u2060\ufeff]'
                    then format(
                        '<U+%s>', lpad(upper(to_hex(ascii(given.letter))), 4, '0')
                    )
                else given.letter
            end,
            ''
            order by given.position
        ) || '"'
    from
        string_to_table(left(value, 100), null)
        with ordinality as given (letter, position);
$$;

-- Whether fields have no value.
create or replace function etl.are_blank(fields text[]) returns boolean
language sql immutable as $$
    select translate(array_to_string(fields, ''), E' \t', '') = '';
$$;

-- What is wrong with a record as a whole, for people.
create or replace function etl.record_message(
    reason text, fields text[], expected integer, delimiter text
) returns text
language sql immutable as $$
    select
        case
            when reason = 'bad_quote'
                then 'a quote inside a value: put quotes around the whole value, '
                    'and double those in it'
            when reason = 'bad_line_end'
                then 'a carriage return inside the record: end each line in a newline, '
                    'with or without one carriage return before it'
            when cardinality(fields) = 1
                then format('1 field instead of %s', expected)
            when cardinality(fields) < expected
                then format('%s fields instead of %s', cardinality(fields), expected)
            when etl.are_blank(fields[expected + 1:])
                then format(
                    '%s fields instead of %s: the record ends in a delimiter too many',
                    cardinality(fields),
                    expected
                )
            else format(
                '%s fields instead of %s: a value with the delimiter (%s) in it needs '
                'quotes',
                cardinality(fields),
                expected,
                case delimiter when E'\t' then 'a tab' else delimiter end
            )
        end;
$$;

-- What is wrong with a value, for people; form and meaning are those of its type.
create or replace function etl.value_message(
    reason text, value text, type text, form text, meaning text
) returns text
language sql stable as $$
    select
        case
            when reason = 'missing_key' then 'empty, though it is a key'
            when value ~ ('^(?:' || form || ')$') is false
                then format('%s is not %s', etl.quoted(value), meaning)
            else (pg_input_error_info(value, type)).message
        end;
$$;

-- Takes records apart, with the lines where they start. Of the columns of the file,
-- those called '' have no name, and are at the end: a record may have them blank, or
-- leave them out. Returns how many were good; the others are in etl.rejects then. The
-- planner takes the records that it is given for few, and a nested loop over 10,000 of
-- them takes 12 s, where a hash join takes 0.2: so it has none.
create or replace function etl.take_apart(
    run_id       bigint,
    source       text,
    target       regclass,
    file_columns text[],
    delimiter    text,
    records      text[],
    lines        bigint[]
) returns bigint
language plpgsql set enable_nestloop = off as $$
declare
    reasons   text;
    names     text;
    key_names text[];
    keys      text;
    loaded    bigint;
begin
    select
        string_agg(
            format(
                $f$case
                    when coalesce(etl.shown(fields[%1$s]) = '', true)
                        then case when %2$L::boolean then 'missing_key' end
                    when not coalesce(etl.shown(fields[%1$s]) ~ %3$L, true)
                        or not pg_input_is_valid(%5$s, %4$L)
                        then 'invalid_value'
                end$f$,
                columns.number,
                columns.is_required,
                '^(?:' || columns.form || ')$',
                columns.type,
                columns.expression
            ),
            ', '
            order by columns.place
        ),
        string_agg(quote_ident(columns.column_name), ', ' order by columns.place),
        array_agg(columns.column_name order by columns.place)
        filter (where columns.is_required),
        -- Where the fields do not fit the columns, only the first surely does.
        string_agg(
            format(
                $f$case
                    when (judged.reason is null or %1$s = 1)
                        and etl.shown(fields[%1$s]) <> ''
                        and coalesce(etl.shown(fields[%1$s]) ~ %2$L, true)
                        and pg_input_is_valid(%4$s, %3$L)
                        then (%4$s)::%3$s::text
                end$f$,
                columns.number,
                '^(?:' || columns.form || ')$',
                columns.type,
                columns.expression
            ),
            ', '
            order by columns.place
        ) filter (where columns.is_required)
    into reasons, names, key_names, keys
    from etl.columns_of_file(take_apart.source, file_columns) as columns;

    execute format(
        $f$
        with
        split as materialized (
            select
                given.record,
                given.line,
                etl.fields(given.record, $4) as fields
            from unnest($1, $2) as given (record, line)
        ),

        judged as materialized (
            select
                split.*,
                case
                    when split.fields is null
                        then 'bad_quote'
                    when etl.has_stray_line_end(split.record)
                        then 'bad_line_end'
                    when
                        cardinality(split.fields) not between $7 and cardinality($3)
                        or not etl.are_blank(split.fields[$7 + 1:])
                        then 'field_count'
                end as reason,
                array[%1$s] as reasons
            from split
        ),

        columns as materialized (
            select
                named.*,
                row_number() over (order by named.place) as nth
            from etl.columns_of_file($6, $3) as named
        ),

        rejected as (
            insert into etl.rejects (
                run_id, file, line, column_name, value, reason, message, record, keys
            )
            select
                $5,
                $6 || '.csv',
                judged.line,
                columns.column_name,
                etl.shown(judged.fields[columns.number]),
                faults.reason,
                etl.one_line(
                    case
                        when columns.number is null
                            then etl.record_message(
                                faults.reason, judged.fields, $7, $4
                            )
                        else etl.value_message(
                            faults.reason,
                            etl.shown(judged.fields[columns.number]),
                            columns.type,
                            columns.form,
                            columns.meaning
                        )
                    end
                ),
                judged.record,
                valid.keys
            from judged
            cross join lateral (
                select
                    jsonb_strip_nulls(
                        jsonb_object(%5$L::text[], array[%6$s]::text[])
                    ) as keys
                from (
                    select
                        coalesce(
                            judged.fields,
                            string_to_array(replace(judged.record, '"', ''), $4)
                        ) as fields
                ) as likely
            ) as valid
            cross join lateral unnest(
                case
                    when judged.reason is null then judged.reasons
                    else array[judged.reason]
                end
            ) with ordinality as faults (reason, nth)
            left join columns
                on judged.reason is null and faults.nth = columns.nth
            where faults.reason is not null
            order by judged.line, faults.nth
        ),

        good as materialized (
            select
                judged.*,
                row_number() over (order by judged.line) as nth
            from judged
            where
                judged.reason is null
                and array_remove(judged.reasons, null) = '{}'
        ),

        -- What an insert returns comes in the order in which it was given.
        loaded as (
            insert into %2$s (%3$s)
            select %4$s
            from good
            order by good.nth
            returning tableoid, ctid
        ),

        noted as (
            insert into etl.odd_rows (source, row_id, line, record)
            select
                returned.tableoid,
                returned.ctid,
                good.line,
                good.record
            from (
                select
                    loaded.*,
                    row_number() over () as nth
                from loaded
            ) as returned
            inner join good on returned.nth = good.nth
        )

        select count(*) from loaded
        $f$,
        reasons,
        target,
        names,
        etl.casts(source, file_columns),
        coalesce(key_names, '{}'),
        keys
    )
    into loaded
    using
        records,
        lines,
        file_columns,
        delimiter,
        run_id,
        source,
        cardinality(array_remove(file_columns, ''));
    return loaded;
end;
$$;
