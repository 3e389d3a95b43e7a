-- The slow path: records that COPY would refuse, or takes though nobody means them, are
-- parsed here. The good ones go to staging, the others to etl.rejects.

-- The tables that a connection works with: raw records as COPY brings them; the same,
-- parsed; what a rule has found; and the records of the file that have it.
create or replace function etl.create_working_tables() returns void
language plpgsql as $$
begin
    if to_regclass('pg_temp.raw_records') is null then
        create temporary table raw_records (
            line   bigint not null,
            record text   not null
        );
        create temporary table parsed_records (
            line   bigint not null,
            record text   not null,
            fields text[] not null,
            reason text,
            texts  text[] not null
        );
        create temporary table violations (
            row_values jsonb  not null,
            at_fault   text[] not null,
            message    text,
            cause_file text,
            cause_line bigint
        );
        create temporary table pending_rejects (
            line       bigint not null,
            record     text   not null,
            texts      text[] not null,
            at_fault   text[] not null,
            message    text,
            cause_file text,
            cause_line bigint
        );
    else
        truncate pg_temp.raw_records, pg_temp.violations, pg_temp.pending_rejects;
    end if;
end;
$$;

-- A value without the spaces and tabs around it.
create or replace function etl.trimmed(value text) returns text
language sql immutable as $$
    select btrim(value, E' \t');
$$;

-- The values of a record with quotes as COPY reads them, with the spaces and tabs
-- around quotes; null where a quote is inside a value, or text after a closing one.
create or replace function etl.quoted_fields(record text, delimiter text) returns text[]
language plpgsql immutable as $$
declare
    blank   text := case delimiter when E'\t' then '[ ]*' else '[ \t]*' end;
    escaped text := '\' || delimiter;
    field   text := format(
        '(?:%1$s"(?:[^"]|"")*"%1$s|[^"%2$s]*)', blank, escaped
    );
begin
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

-- Values without what line ends and files put together leave at their edges: carriage
-- returns that end no line, the end-of-file character of DOS, byte-order marks.
create or replace function etl.without_marks(fields text[]) returns text[]
language sql immutable as $$
    select
        array_agg(
            regexp_replace(
                regexp_replace(
                    given.value, '^[ \t]*(?:(?:\r(?!\n)|\u001a|\ufeff)[ \t]*)+', ''
                ),
                '(?:[ \t]*[\r\u001a\ufeff])+[ \t]*$',
                ''
            )
            order by given.position
        )
    from unnest(fields) with ordinality as given (value, position);
$$;

-- The values of any record. Most have no quotes: splitting those is much cheaper.
create or replace function etl.fields(record text, delimiter text) returns text[]
language sql immutable as $$
    select
        case
            when record ~ '[\r\u001a\ufeff]'
                then etl.without_marks(etl.quoted_fields(record, delimiter))
            when position('"' in record) > 0
                then etl.quoted_fields(record, delimiter)
            else string_to_array(record, delimiter)
        end;
$$;

-- What is wrong with a record as a whole, null for nothing. Of the columns of its file,
-- the last ones may have no name: a record may have them blank, or leave them out.
create or replace function etl.record_reason(
    record text, fields text[], named integer, most integer
) returns text
language sql immutable as $$
    select
        case
            when fields is null then 'bad_quote'
            when
                position(E'\r' in record) > 0
                and position(
                    E'\r' in regexp_replace(record, '"(?:[^"]|"")*"', '', 'g')
                ) > 0
                then 'bad_line_end'
            when
                cardinality(fields) not between named and most
                or etl.trimmed(array_to_string(fields[named + 1:], '')) <> ''
                then 'field_count'
        end;
$$;

-- A value without its padding, and without spaces and tabs around it.
create or replace function etl.without_padding(
    value text, padding text
) returns text
language sql immutable as $$
    select
        case
            when padding is null then etl.trimmed(value)
            else regexp_replace(etl.trimmed(value), padding, '')
        end;
$$;

-- A value as its type takes it, without padding; null if it is no value of the type.
create or replace function etl.normalised(
    value text, type text, pattern text, padding text
) returns text
language sql stable as $$
    select
        case
            when
                (pattern is null or etl.trimmed(value) ~ ('^(?:' || pattern || ')$'))
                and pg_input_is_valid(etl.without_padding(value, padding), type)
                then etl.without_padding(value, padding)
        end;
$$;

-- A list without blank elements and the spaces and tabs around elements.
create or replace function etl.elements(value text, separator text) returns text
language sql immutable as $$
    select
        btrim(
            regexp_replace(
                value,
                '[ \t]*[' || separator || '][ \t' || separator || ']*',
                separator,
                'g'
            ),
            E' \t' || separator
        );
$$;

-- A list like that, without the padding of its elements.
create or replace function etl.elements_without_padding(
    value text, separator text, padding text
) returns text
language sql immutable as $$
    select
        case
            when padding is null then etl.elements(value, separator)
            else regexp_replace(
                etl.elements(value, separator),
                rtrim(padding, '$') || '(?=[' || separator || ']|$)',
                '',
                'g'
            )
        end;
$$;

-- A list with its elements normalised; null where one of them is no value of their
-- type, which an array of them shows.
create or replace function etl.normalised_list(
    value text, separator text, type text, pattern text, padding text
) returns text
language sql stable as $$
    select
        case
            when etl.elements(value, separator) = '' then ''
            when
                etl.elements(value, separator)
                ~ ('^' || etl.pattern_of_list(pattern, separator) || '$')
                and pg_input_is_valid(
                    '{' || replace(
                        etl.elements_without_padding(value, separator, padding),
                        separator,
                        ','
                    ) || '}',
                    type || '[]'
                )
                then etl.elements_without_padding(value, separator, padding)
        end;
$$;

-- The columns of staging that a file has, in their order; number is the position of
-- their values among the fields of a record. text is an expression over the array
-- fields: the value as its type writes it, '' for an empty one, and null for an invalid
-- one, or an empty one that is required. value casts that from the array texts.
create or replace function etl.columns_of_file(
    source text, file_columns text[]
) returns table (
    nth         bigint,
    number      bigint,
    column_name text,
    is_required boolean,
    text        text,
    value       text
)
language sql stable as $$
    select
        columns.nth,
        columns.number,
        columns.column_name,
        columns.is_required,
        format(
            $f$case when %s = '' then %s else %s end$f$,
            case
                when columns.is_text and not columns.is_required then columns.field
                else format('etl.trimmed(%s)', columns.field)
            end,
            case when columns.is_required then 'null' else $f$''$f$ end,
            format(
                case
                    when columns.separator is not null
                        then 'etl.normalised_list(%1$s, %5$L, %2$L, %3$L, %4$L)'
                    when columns.is_text
                        then 'case when pg_input_is_valid(%1$s, %2$L) then %1$s end'
                    else 'etl.normalised(%1$s, %2$L, %3$L, %4$L)::%2$s::text'
                end,
                columns.field,
                columns.value_type,
                columns.pattern,
                columns.padding,
                columns.separator
            )
        ) as text,
        format($f$nullif(texts[%s], '')::%s$f$, columns.nth, columns.type) as value
    from (
        select
            known.*,
            named.number,
            row_number() over (order by known.position) as nth,
            format(
                case
                    when known.is_text
                        then $f$coalesce(nullif(fields[%s], E'\t'), '')$f$
                    else $f$coalesce(fields[%s], '')$f$
                end,
                named.number
            ) as field
        from
            unnest(file_columns) with ordinality as named (column_name, number)
        inner join etl.source_columns as known
            on
                known.source = columns_of_file.source
                and named.column_name = known.column_name
    ) as columns
    order by columns.nth;
$$;

-- Parses the raw records of a file. Records with a reason are wrong as a whole; their
-- fields are guessed, by splitting at every delimiter.
create or replace function etl.parse_records(
    source text, file_columns text[], delimiter text
) returns void
language plpgsql as $$
begin
    truncate pg_temp.parsed_records;
    execute format(
        $f$
        insert into pg_temp.parsed_records (line, record, fields, reason, texts)
        -- Materialized, or each use of a field would split the record again.
        with
        split as materialized (
            select
                raw_records.line,
                raw_records.record,
                etl.fields(raw_records.record, $1) as fields
            from pg_temp.raw_records
        ),

        likely as materialized (
            select
                split.line,
                split.record,
                coalesce(
                    split.fields, string_to_array(replace(split.record, '"', ''), $1)
                ) as fields,
                etl.record_reason(split.record, split.fields, $2, $3) as reason
            from split
        )

        select
            likely.line,
            likely.record,
            likely.fields,
            likely.reason,
            array[%s]::text[] as texts
        from likely
        $f$,
        (
            select string_agg(columns.text, ', ' order by columns.nth)
            from etl.columns_of_file(source, file_columns) as columns
        )
    )
    using
        delimiter,
        cardinality(array_remove(file_columns, '')),
        cardinality(file_columns);
    truncate pg_temp.raw_records;
end;
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

-- What is wrong with a record as a whole, for people.
create or replace function etl.record_message(
    reason text, fields text[], named integer, delimiter text
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
            else format(
                '%s field%s instead of %s',
                cardinality(fields),
                case when cardinality(fields) > 1 then 's' end,
                named
            ) || case
                when cardinality(fields) < named then ''
                when etl.trimmed(array_to_string(fields[named + 1:], '')) = ''
                    then ': the record ends in a delimiter too many'
                else format(
                    ': a value with the delimiter (%s) in it needs quotes',
                    case delimiter when E'\t' then 'a tab' else delimiter end
                )
            end
        end;
$$;

-- What is wrong with a value of a column, for people. Of a list, the first element that
-- is no value is named.
create or replace function etl.value_message(
    value text, its_column etl.source_columns
) returns text
language sql stable as $$
    select
        case
            when value = '' then 'empty, though it is a key'
            when
                its_column.separator is null
                and (value ~ ('^(?:' || its_column.pattern || ')$')) is not false
                then (pg_input_error_info(value, its_column.value_type)).message
            else format(
                '%s is not %s',
                etl.quoted(
                    case
                        when its_column.separator is null then value
                        else (
                            select etl.trimmed(elements.element)
                            from
                                string_to_table(value, its_column.separator)
                                with ordinality as elements (element, position)
                            where
                                etl.trimmed(elements.element) <> ''
                                and etl.normalised(
                                    elements.element,
                                    its_column.value_type,
                                    its_column.pattern,
                                    its_column.padding
                                ) is null
                            order by elements.position
                            limit 1
                        )
                    end
                ),
                its_column.meaning
            )
        end;
$$;

-- Loads the raw records of a file into its table; those that are wrong go to
-- etl.rejects. Its schema is staging, or appended. Returns how many were loaded.
create or replace function etl.load_raw_records(
    run_id       bigint,
    table_schema text,
    source       text,
    file_columns text[],
    delimiter    text
) returns bigint
language plpgsql as $$
declare
    loaded bigint;
begin
    perform etl.parse_records(source, file_columns, delimiter);

    with
    columns as materialized (
        select
            named.nth,
            named.number,
            source_columns as format,
            named.column_name,
            named.is_required
        from etl.columns_of_file(load_raw_records.source, file_columns) as named
        inner join etl.source_columns using (column_name)
        where source_columns.source = load_raw_records.source
    ),

    faults as (
        select
            parsed.line,
            null as nth,
            null as column_name,
            null as value,
            parsed.reason,
            etl.record_message(
                parsed.reason,
                parsed.fields,
                cardinality(array_remove(file_columns, '')),
                delimiter
            ) as message
        from pg_temp.parsed_records as parsed
        where parsed.reason is not null
        union all
        select
            parsed.line,
            columns.nth,
            columns.column_name,
            given.value,
            case given.value when '' then 'missing_key' else 'invalid_value' end,
            etl.value_message(given.value, columns.format)
        from pg_temp.parsed_records as parsed
        cross join columns
        cross join lateral (
            select etl.trimmed(parsed.fields[columns.number]) as value
        ) as given
        where
            parsed.reason is null
            and array_position(parsed.texts, null) is not null
            and parsed.texts[columns.nth] is null
    )

    insert into etl.rejects (
        run_id, file, line, column_name, value, reason, message, record, keys
    )
    select
        load_raw_records.run_id,
        load_raw_records.source || '.csv',
        faults.line,
        faults.column_name,
        faults.value,
        faults.reason,
        etl.one_line(faults.message),
        parsed.record,
        -- Where the fields do not fit the columns, only the first surely does.
        (
            select
                coalesce(
                    jsonb_object_agg(columns.column_name, parsed.texts[columns.nth]),
                    '{}'
                )
            from columns
            where
                columns.is_required
                and parsed.texts[columns.nth] is not null
                and (parsed.reason is null or columns.number = 1)
        )
    from faults
    inner join pg_temp.parsed_records as parsed using (line)
    order by faults.line, faults.nth;

    execute etl.insert_of_texts(
        table_schema,
        source,
        file_columns,
        'pg_temp.parsed_records where reason is null'
        ' and array_position(texts, null) is null'
    );
    get diagnostics loaded = row_count;
    return loaded;
end;
$$;

-- The statement that inserts records, by their texts, into their table.
create or replace function etl.insert_of_texts(
    table_schema text, source text, file_columns text[], chosen text
) returns text
language sql stable as $$
    select
        format(
            'insert into %I.%I (%s) select %s from %s',
            table_schema,
            source,
            string_agg(quote_ident(columns.column_name), ', ' order by columns.nth),
            string_agg(columns.value, ', ' order by columns.nth),
            chosen
        )
    from etl.columns_of_file(source, file_columns) as columns;
$$;
