-- The tables that files fill, as the catalog has them: the engine asks here and knows
-- none by name.

-- Of a type without a form, whatever it takes is meant.
create or replace view etl.source_columns as
select
    tables.relname as source,
    attributes.attnum as position,
    attributes.attname as column_name,
    format_type(attributes.atttypid, attributes.atttypmod) as type,
    attributes.attnotnull as is_required,
    types.typcategory = 'S' as is_text,
    type_forms.form,
    coalesce(plain_forms.plain, type_forms.plain) as plain,
    case
        when plain_forms.plain is not null or type_forms.frame is not null
            then replace(coalesce(plain_forms.plain, type_forms.plain), '[0-9]', '0')
    end as frame,
    plain_forms.separator,
    type_forms.meaning,
    type_forms.padding
from pg_class as tables
inner join pg_attribute as attributes on tables.oid = attributes.attrelid
inner join pg_type as types on attributes.atttypid = types.oid
left join etl.type_forms
    on coalesce(nullif(types.typbasetype, 0), types.oid) = type_forms.type
left join etl.plain_forms
    on
        tables.relname = plain_forms.source
        and attributes.attname = plain_forms.column_name
where
    tables.relnamespace = to_regnamespace('staging')
    and tables.relkind in ('r', 'p')
    and attributes.attnum > 0
    and not attributes.attisdropped
    and attributes.attgenerated = '';
comment on view etl.source_columns is 'The columns of the tables in staging';

-- The columns of a source, all of which its file has; number is the position of their
-- values among the fields of a record, and expression the text of a value that its type
-- takes, in a SELECT that has the array fields.
create or replace function etl.columns_of_file(
    source text, file_columns text[]
) returns table (
    place       integer,
    number      bigint,
    column_name text,
    type        text,
    is_required boolean,
    is_text     boolean,
    form        text,
    meaning     text,
    expression  text
)
language sql stable as $$
    select
        columns.position::integer as place,
        named.number,
        columns.column_name::text,
        columns.type,
        columns.is_required,
        columns.is_text,
        columns.form,
        columns.meaning,
        format(
            case
                when columns.is_text then 'fields[%1$s]'
                when columns.padding is null then 'etl.shown(fields[%1$s])'
                else 'regexp_replace(etl.shown(fields[%1$s]), %2$L, '''')'
            end,
            named.number,
            columns.padding
        ) as expression
    from unnest(file_columns) with ordinality as named (column_name, number)
    inner join etl.source_columns as columns
        on
            columns.source = columns_of_file.source
            and columns.column_name = named.column_name
    order by columns.position;
$$;

-- The file that fills a table, or fills the table that it inherits from.
create or replace function etl.file_of(target regclass) returns text
language sql stable as $$
    select sources.relname || '.csv'
    from pg_class as sources
    where
        sources.oid = coalesce(
            (select inhparent from pg_inherits where inhrelid = target), target
        );
$$;

-- A table for a file with columns that its source lacks: COPY cannot skip them. It
-- inherits from the source, so whoever reads the source sees its rows. The type "char"
-- takes any value and keeps a byte of it. Returns the name of the table; it goes when
-- the next run begins. (A column that is added to the source and dropped again would
-- leave a trace for ever.)
create or replace function etl.widen(source text, more_columns text[]) returns text
language plpgsql as $$
declare
    wide text := 'wide_' || source;
begin
    execute format(
        'create unlogged table etl.%I (%s) inherits (staging.%I)'
        ' with (autovacuum_enabled = false)',
        wide,
        (
            select string_agg(format('%I "char"', more.name), ', ')
            from unnest(more_columns) as more (name)
        ),
        source
    );
    return wide;
end;
$$;

-- Empties a table. TRUNCATE makes new files, which costs some milliseconds; deleting a
-- few rows costs none, and a table without a page has nothing to empty.
create or replace function etl.empty_table(target regclass) returns void
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
create or replace function etl.empty_built() returns void
language sql as $$
    select etl.empty_table(tables.oid)
    from pg_class as tables
    where
        tables.oid = to_regclass('features_next')
        or tables.oid in (select built_tables.target from etl.built_tables);
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
