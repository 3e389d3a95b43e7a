-- Rules of sql/clean: each is a query for the values that mark bad records. What it
-- returns becomes rejects here, the same for every rule.

-- Which share of the rows a connection takes, and of how many, where a file runs on
-- several at once. They are immutable so that the planner takes them for constants: a
-- statement that calls them must not be prepared.
create or replace function etl.slice() returns integer
language sql immutable parallel safe as $$
    select coalesce(nullif(current_setting('etl.slice', true), ''), '0')::integer;
$$;

create or replace function etl.slices() returns integer
language sql immutable parallel safe as $$
    select coalesce(nullif(current_setting('etl.slices', true), ''), '1')::integer;
$$;

-- Whether a file builds all of its rows; otherwise those with the keys in its table of
-- changes, since records were appended and nothing else has changed.
-- (Stable: so Citus evaluates it before it sends a statement to nodes, which lack the
-- setting.)
create or replace function etl.builds_all() returns boolean
language sql stable parallel safe as $$
    select coalesce(current_setting('etl.builds_part', true), '') = '';
$$;

-- Whether whole numbers surely hold duplicates: there are more of them than numbers
-- from the least to the greatest, or as many that add up to another sum. Costs a
-- quarter of what a sort does; where numbers leave gaps, or keys are no numbers, it
-- says nothing.
create or replace function etl.has_duplicates(source text, key text) returns boolean
language plpgsql stable as $$
declare
    answer boolean;
begin
    if not exists (
        select 1
        from etl.source_columns as columns
        where
            columns.source = has_duplicates.source
            and columns.column_name = key
            and columns.type in ('smallint', 'integer', 'bigint')
    ) then
        return false;
    end if;

    execute format(
        $f$
        select
            keys.total > keys.range
            or keys.total = keys.range
            and keys.sum <> keys.total * (keys.least + keys.greatest) / 2
        from (
            select
                count(%1$I)::numeric as total,
                sum(%1$I) as sum,
                min(%1$I)::numeric as least,
                max(%1$I)::numeric as greatest,
                max(%1$I)::numeric - min(%1$I) + 1 as range
            from staging.%2$I
        ) as keys
        $f$,
        key,
        source
    )
    into answer;
    return coalesce(answer, false);
end;
$$;

-- The bodies of the functions below are checked against the working tables.
select etl.create_working_tables();

-- The columns of a source whose values a rule has found; value casts one of them in a
-- SELECT that has row_values.
create or replace function etl.columns_of_violations(
    source text
) returns table (nth integer, column_name text, value text)
language sql stable as $$
    select
        columns.position,
        columns.column_name,
        format('(row_values ->> %L)::%s', columns.column_name, columns.type) as value
    from etl.source_columns as columns
    where
        columns.source = columns_of_violations.source
        and exists (
            select 1
            from (select * from pg_temp.violations limit 1) as one
            where one.row_values ? columns.column_name
        );
$$;

-- The condition for rows of a source that have the values that a rule has found, one
-- for each combination of columns that are null. The values are part of its text, an
-- array for each column: so the planner knows them, and no node casts them.
create or replace function etl.condition_of_violations(source text) returns text
language sql stable as $$
    select
        string_agg(
            format(
                '(%s)',
                concat_ws(
                    ' and ',
                    '(' || parts.names || ') in (select * from unnest('
                    || parts.arrays || '))',
                    parts.absent
                )
            ),
            ' or '
        )
    from (
        select
            blank.columns as absent,
            jsonb_agg(violations.row_values) as all_values
        from pg_temp.violations
        cross join lateral (
            select array(
                select members.key
                from jsonb_each(violations.row_values) as members
                where members.value = 'null'
                order by members.key
            ) as columns
        ) as blank
        group by blank.columns
    ) as found
    cross join lateral (
        select
            string_agg(format('%I is null', columns.column_name), ' and ')
            filter (where columns.column_name = any (found.absent)) as absent,
            string_agg(
                quote_ident(columns.column_name), ', ' order by columns.nth
            )
            filter (where columns.column_name <> all (found.absent)) as names,
            string_agg(
                format(
                    '%L::%s[]',
                    (
                        select
                            array_agg(
                                given.row_values ->> columns.column_name
                                order by given.nth
                            )
                        from
                            jsonb_array_elements(found.all_values)
                            with ordinality as given (row_values, nth)
                    ),
                    types.type
                ),
                ', '
                order by columns.nth
            )
            filter (where columns.column_name <> all (found.absent)) as arrays
        from etl.columns_of_violations(source) as columns
        inner join etl.source_columns as types
            on
                types.source = condition_of_violations.source
                and columns.column_name = types.column_name
    ) as parts;
$$;

-- Gives the values that a rule has found the types that they have in staging, whatever
-- types the rule has returned.
create or replace function etl.cast_violations(source text) returns void
language plpgsql as $$
declare
    unknown text;
begin
    select members.key
    into unknown
    from (select * from pg_temp.violations limit 1) as one
    cross join lateral jsonb_object_keys(one.row_values) as members (key)
    where
        members.key not in (
            select columns.column_name
            from etl.columns_of_violations(source) as columns
        );
    if unknown is not null then
        raise 'it returns the column %, which staging.% lacks', unknown, source
            using errcode = 'undefined_column';
    end if;

    execute (
        select
            format(
                'update pg_temp.violations set row_values = jsonb_build_object(%s)',
                string_agg(
                    format('%L, %s', columns.column_name, columns.value), ', '
                )
            )
        from etl.columns_of_violations(source) as columns
    );
end;
$$;

-- Deletes the rows that have what a rule has found. Returns how many that were; how
-- many of them are to be kept where the first of each value is; and whether all follow
-- from other rejected records.
create or replace function etl.delete_violations(
    source text, keeps_first boolean
) returns table (records bigint, kept bigint, is_consequence boolean)
language plpgsql as $$
begin
    execute format(
        'delete from staging.%I where %s', source, etl.condition_of_violations(source)
    );
    get diagnostics records = row_count;
    select bool_and(violations.cause_file is not null)
    into is_consequence
    from pg_temp.violations;
    select count(*)
    into kept
    from (select distinct violations.at_fault from pg_temp.violations) as kept_ones
    where keeps_first;
    kept := least(kept, records);
    return next;
end;
$$;

-- Finds the raw records that have what a rule has found, and were not rejected before.
-- Returns how many there are. A record that cannot be parsed has no values, and matches
-- none: as a condition, the planner, which has no statistics of temporary tables, takes
-- that for so rare that it compares each record with each value.
create or replace function etl.match_violations(
    run_id bigint, source text, file_columns text[], delimiter text
) returns bigint
language plpgsql as $$
declare
    matched bigint;
begin
    perform etl.parse_records(source, file_columns, delimiter);

    execute (
        select
            format(
                $f$
                insert into pg_temp.pending_rejects (
                    line, record, texts, at_fault, message, cause_file, cause_line
                )
                select distinct on (parsed.line)
                    parsed.line,
                    parsed.record,
                    parsed.texts,
                    violations.at_fault,
                    violations.message,
                    violations.cause_file,
                    violations.cause_line
                from (
                    select
                        parsed_records.*,
                        case
                            when
                                parsed_records.reason is null
                                and array_position(parsed_records.texts, null) is null
                                then jsonb_build_object(%s)
                        end as row_values
                    from pg_temp.parsed_records
                ) as parsed
                inner join pg_temp.violations using (row_values)
                where
                    parsed.line not in (
                        select rejects.line
                        from etl.rejects
                        where
                            rejects.run_id = %s
                            and rejects.is_consequence in (false, true)
                            and rejects.file = %L
                    )
                order by parsed.line
                $f$,
                string_agg(
                    format('%L, %s', in_file.column_name, in_file.value), ', '
                ),
                match_violations.run_id,
                source || '.csv'
            )
        from etl.columns_of_violations(source) as in_violations
        inner join etl.columns_of_file(source, file_columns) as in_file
            using (column_name)
    );
    get diagnostics matched = row_count;
    return matched;
end;
$$;

-- Writes what was matched to etl.rejects; of those to be kept, the first record in the
-- file with a value comes back into its table. Returns how many were rejected.
create or replace function etl.reject_pending(
    run_id       bigint,
    source       text,
    file_columns text[],
    at_fault     text[],
    reason       text,
    rule         text,
    keeps_first  boolean
) returns bigint
language plpgsql as $$
declare
    rejected bigint;
begin
    with
    numbered as (
        select
            pending_rejects.*,
            row_number() over same_value as nth,
            first_value(pending_rejects.line) over same_value as first_line
        from pg_temp.pending_rejects
        window same_value as (
            partition by pending_rejects.at_fault order by pending_rejects.line
        )
    ),

    keys as materialized (
        select
            columns.nth,
            columns.column_name,
            -- Of duplicates, the first record stays: others may refer to it.
            keeps_first and columns.column_name = any (at_fault) as is_taken
        from etl.columns_of_file(source, file_columns) as columns
        where columns.is_required
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
        rule,
        cause_file,
        cause_line
    )
    select
        reject_pending.run_id,
        source || '.csv',
        numbered.line,
        array_to_string(reject_pending.at_fault, ', '),
        nullif(etl.trimmed(array_to_string(numbered.at_fault, ', ')), ''),
        reject_pending.reason,
        etl.one_line(
            coalesce(
                numbered.message,
                format('line %s has it already', numbered.first_line)
            )
        ),
        numbered.record,
        (
            select
                jsonb_object_agg(
                    keys.column_name,
                    case when not keys.is_taken then numbered.texts[keys.nth] end
                )
            from keys
        ),
        reject_pending.rule,
        numbered.cause_file,
        numbered.cause_line
    from numbered
    where not keeps_first or numbered.nth > 1
    order by numbered.line;
    get diagnostics rejected = row_count;

    if keeps_first then
        execute etl.insert_of_texts(
            'staging',
            source,
            file_columns,
            '(select distinct on (at_fault) texts from pg_temp.pending_rejects'
            ' order by at_fault, line) as first_ones'
        );
    end if;
    return rejected;
end;
$$;
