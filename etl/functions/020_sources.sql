-- The tables that files fill, as the catalog has them: the engine asks here and knows
-- none by name.

-- The pattern of a list whose elements have this pattern; itself without a separator.
create or replace function etl.pattern_of_list(
    element text, separator text
) returns text
language sql immutable as $$
    select
        case
            when element is null or separator is null then element
            else format(
                '(?:%1$s)(?:%2$s(?:%1$s))*%2$s?',
                element,
                regexp_replace(separator, '[|.*+?^$(){}\[\]\\]', '\\\&')
            )
        end;
$$;

-- The tables that files fill.
create or replace view etl.sources as
select
    tables.oid::regclass as target,
    tables.relname::text as source
from pg_class as tables
where
    tables.relnamespace = to_regnamespace('staging')
    and tables.relkind in ('r', 'p')
    and not tables.relispartition;
comment on view etl.sources is 'The tables in staging';

-- The columns of the tables in staging, with the formats of their values. A list has
-- the format of its elements, and value_type is their type. COPY cannot skip a column
-- that staging lacks, so runs add spare ones, which are not here.
create or replace view etl.source_columns as
select
    sources.source,
    attributes.attnum::integer as position,
    attributes.attname::text as column_name,
    format_type(attributes.atttypid, attributes.atttypmod) as type,
    format_type(
        coalesce(lists.element_type, attributes.atttypid),
        case when lists.element_type is null then attributes.atttypmod end
    ) as value_type,
    attributes.attnotnull as is_required,
    types.typcategory = 'S' as is_text,
    formats.pattern,
    etl.pattern_of_list(formats.regular_pattern, lists.separator) as regular_pattern,
    etl.pattern_of_list(formats.skeleton, lists.separator) as skeleton,
    formats.padding,
    lists.separator,
    coalesce(lists.meaning, formats.meaning) as meaning
from etl.sources
inner join pg_attribute as attributes on sources.target = attributes.attrelid
inner join pg_type as types on attributes.atttypid = types.oid
left join etl.list_columns as lists
    on
        sources.source = lists.source
        and attributes.attname = lists.column_name
left join etl.type_formats as formats
    on
        coalesce(lists.element_type, nullif(types.typbasetype, 0), types.oid)
        = formats.type
where
    attributes.attnum > 0
    and not attributes.attisdropped
    and attributes.attgenerated = ''
    and attributes.attname !~ '^skipped_[0-9]+$';
comment on view etl.source_columns is 'The columns of the tables in staging';

-- The files that fill them, and the columns of each for who writes such a file.
create or replace view etl.expected_files as
select
    source || '.csv' as file,
    json_agg(
        json_build_object(
            'name', column_name,
            'type', type,
            'required', is_required,
            'description',
            col_description(
                to_regclass(format('staging.%I', source))::oid, position
            )
        )
        order by position
    ) as columns
from etl.source_columns
group by source;
comment on view etl.expected_files is 'The files that a run reads, and their columns';

-- The columns of a table that can be written to, as a list: all, or those that another
-- table has too, under the same names.
create or replace function etl.written_columns(
    target regclass, other regclass default null
) returns text
language sql stable as $$
    select string_agg(quote_ident(attributes.attname), ', ' order by attributes.attnum)
    from pg_attribute as attributes
    inner join pg_attribute as others using (attname)
    where
        attributes.attrelid = target
        and attributes.attnum > 0
        and not attributes.attisdropped
        and attributes.attgenerated = ''
        and others.attrelid = coalesce(other, target)
        and not others.attisdropped;
$$;

-- Empties a table. TRUNCATE makes new files, which costs some milliseconds; deleting a
-- few rows costs none, but gives no space back: it is done until the server counts many
-- dead rows.
create or replace function etl.empty_table(target regclass) returns void
language plpgsql as $$
declare
    first_rows bigint;
begin
    execute format(
        'select count(*) from (select 1 from %s limit 1001) as first_rows', target
    )
    into first_rows;
    if first_rows > 1000 or pg_stat_get_dead_tuples(target) > 10000 then
        execute format('truncate %s', target);
    elsif first_rows > 0 then
        execute format('delete from %s', target);
    end if;
end;
$$;

-- The tables that sql/build fills: features_next, and those beside it.
create or replace view etl.built as
select to_regclass('features_next') as target
where to_regclass('features_next') is not null
union
select built_tables.target from etl.built_tables;
comment on view etl.built is 'The tables that sql/build fills';

-- All tables that runs fill, but features, with the partitions that they have. (By
-- "union", the planner would expect millions of rows: its hash table takes 30 ms.)
create or replace view etl.filled as
with
targets as (
    select sources.target from etl.sources
    union all
    select built.target from etl.built
)

select targets.target from targets
union all
select partitions.relid as target
from targets
cross join lateral pg_partition_tree(targets.target) as partitions
where partitions.level > 0;
comment on view etl.filled is 'The tables that runs fill, and their partitions';

-- Empties all tables that runs fill, but not features: on a full disk.
create or replace function etl.empty_all() returns void
language plpgsql as $$
declare
    filled regclass;
begin
    truncate etl.loads, etl.results, etl.last_state;
    for filled in
        select sources.target from etl.sources
        union all
        select built.target from etl.built
        union all
        select tables.oid
        from pg_class as tables
        where
            tables.relnamespace = to_regnamespace('appended')
            and tables.relkind = 'r'
    loop
        execute format('truncate %s', filled);
    end loop;
end;
$$;
