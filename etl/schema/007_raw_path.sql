-- The raw path: records that COPY would refuse, or takes though nobody means them, are
-- taken apart here. The good ones go to staging, the others to etl.rejects.

-- The values of a record as COPY reads them, with the blanks around quotes; null where
-- a quote stands inside a value, or text after a closing one.
create function etl.fields(record text, delimiter text) returns text[]
language plpgsql immutable as $$
declare
    blank   text;
    escaped text;
    field   text;
begin
    if position('"' in record) = 0 then
        return string_to_array(record, delimiter);
    end if;

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

create function etl.is_blank(value text) returns boolean
language sql immutable as $$
    select coalesce(btrim(value, E' \t') = '', true);
$$;

-- The columns of a source that its file has, in the file's order; number is the place
-- of their values among the fields of a record.
create function etl.columns_of_file(
    source text, file_columns text[]
) returns table (
    number      bigint,
    column_name text,
    type        text,
    is_required boolean,
    is_text     boolean,
    form        text,
    meaning     text
)
language sql stable as $$
    select
        named.number,
        columns.column_name::text,
        columns.type,
        columns.is_required,
        columns.is_text,
        columns.form,
        columns.meaning
    from unnest(file_columns) with ordinality as named (column_name, number)
    inner join etl.source_columns as columns
        on
            columns.source = columns_of_file.source
            and columns.column_name = named.column_name
    order by named.number;
$$;

-- The values of good fields, cast to the types of their columns: a list for a SELECT
-- that has the array fields. What is blank is null, but text that is more than one tab.
create function etl.casts(source text, file_columns text[]) returns text
language sql stable as $$
    select
        string_agg(
            format(
                case
                    when columns.is_text
                        then $f$nullif(nullif(fields[%s], ''), E'\t')::%s$f$
                    else $f$nullif(btrim(fields[%s], E' \t'), '')::%s$f$
                end,
                columns.number,
                columns.type
            ),
            ', '
            order by columns.number
        )
    from etl.columns_of_file(casts.source, file_columns) as columns;
$$;

-- Takes records apart, with the lines where they start. Returns how many were good; the
-- records that are not are in etl.rejects then.
create function etl.take_apart(
    run_id       bigint,
    source       text,
    target       regclass,
    file_columns text[],
    delimiter    text,
    records      text[],
    lines        bigint[]
) returns bigint
language plpgsql as $$
declare
    reasons text;
    names   text;
    loaded  bigint;
begin
    select
        string_agg(
            format(
                $f$case
                    when etl.is_blank(fields[%1$s])
                        then case when %2$L::boolean then 'missing_key' end
                    when not coalesce(btrim(fields[%1$s], E' \t') ~ %3$L, true)
                        or not pg_input_is_valid(%5$s, %4$L)
                        then 'invalid_value'
                end$f$,
                columns.number,
                columns.is_required,
                '^(?:' || columns.form || ')$',
                columns.type,
                case
                    when columns.is_text then format('fields[%s]', columns.number)
                    else format($f$btrim(fields[%s], E' \t')$f$, columns.number)
                end
            ),
            ', '
            order by columns.number
        ),
        string_agg(quote_ident(columns.column_name), ', ' order by columns.number)
    into reasons, names
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
                    when cardinality(split.fields) <> cardinality($3)
                        then 'field_count'
                end as reason,
                array[%1$s] as reasons
            from split
        ),

        rejected as (
            insert into etl.rejects (
                run_id, file, line, column_name, value, reason, message, record
            )
            select $5, $6 || '.csv', judged.line, faults.*, judged.record
            from judged
            cross join lateral etl.faults(
                $6, $3, judged.fields, judged.reason, judged.reasons
            ) as faults
            order by judged.line
        ),

        loaded as (
            insert into %2$s (%3$s)
            select %4$s
            from judged
            where
                judged.reason is null
                and array_remove(judged.reasons, null) = '{}'
            order by judged.line
            returning tableoid, ctid
        ),

        noted as (
            insert into etl.odd_rows (source, row_id)
            select loaded.tableoid, loaded.ctid
            from loaded
        )

        select count(*) from loaded
        $f$,
        reasons,
        target,
        names,
        etl.casts(source, file_columns)
    )
    into loaded
    using records, lines, file_columns, delimiter, run_id, source;
    return loaded;
end;
$$;

-- The errors of a record: one where it is broken as a whole, else one per bad value.
create function etl.faults(
    source text, file_columns text[], fields text[], reason text, reasons text[]
) returns table (column_name text, value text, fault text, message text)
language sql stable as $$
    select
        null as column_name,
        null as value,
        reason as fault,
        case reason
            when 'bad_quote'
                then 'a quote inside a value: put quotes around the whole value, '
                    'and double those in it'
            else format(
                '%s fields instead of %s',
                cardinality(fields),
                cardinality(file_columns)
            )
        end as message
    where reason is not null
    union all
    select
        columns.column_name,
        columns.value,
        reasons.reason as fault,
        case
            when reasons.reason = 'missing_key' then 'empty, though it is a key'
            when not coalesce(columns.value ~ ('^(?:' || columns.form || ')$'), true)
                then format('"%s" is not %s', left(columns.value, 100), columns.meaning)
            else (pg_input_error_info(columns.value, columns.type)).message
        end as message
    from unnest(reasons) with ordinality as reasons (reason, position)
    inner join (
        select
            named.*,
            row_number() over (order by named.number) as position,
            btrim(fields[named.number], E' \t') as value
        from etl.columns_of_file(source, file_columns) as named
    ) as columns on reasons.position = columns.position
    where faults.reason is null and reasons.reason is not null;
$$;

-- A record that is too long to be held; head is how it begins.
create function etl.reject_long(
    run_id bigint, source text, line bigint, head text, bytes bigint, longest bigint
) returns void
language sql as $$
    insert into etl.rejects (run_id, file, line, reason, message, record)
    values (
        reject_long.run_id,
        source || '.csv',
        reject_long.line,
        'too_long',
        format('%s bytes, and %s are the most: is a quote left open?', bytes, longest),
        head
    );
$$;
