-- What clients that read features need to know: its columns, and its version, which is
-- the same for the same input, whichever run it was, and another one for any other.

-- The columns, with what filters and pages need.
create or replace view etl.feature_columns as
select
    attributes.attnum as position,
    attributes.attname::text as name,
    format_type(attributes.atttypid, attributes.atttypmod) as type,
    col_description(attributes.attrelid, attributes.attnum) as description,
    -- Without its length: a value that is cut or rounded would be another value.
    format_type(attributes.atttypid, -1) as value_type,
    types.typcategory = 'S' as is_text,
    attributes.attnotnull as is_required,
    array_position(
        (keys.indkey::smallint[])[0:keys.indnkeyatts - 1], attributes.attnum
    ) as key_position
from pg_attribute as attributes
inner join pg_type as types on attributes.atttypid = types.oid
left join pg_index as keys
    on attributes.attrelid = keys.indrelid and keys.indisprimary
where
    attributes.attrelid = to_regclass('features')
    and attributes.attnum > 0
    and not attributes.attisdropped;
comment on view etl.feature_columns is
'The columns of features; key_position is that in its primary key';

-- From the catalog itself, since every request reads it: feature_columns would cost
-- 30 microseconds more, a tenth of a page.
create or replace view etl.feature_columns_digest as
select left(md5(columns.written || coalesce(keys.written, '')), 8) as digest
from (
    select
        coalesce(
            string_agg(
                attributes.atttypid
                || ' ' || attributes.atttypmod
                || ' ' || attributes.attnotnull
                || ' ' || attributes.attname,
                ',' order by attributes.attnum
            ),
            ''
        ) as written
    from pg_attribute as attributes
    where
        attributes.attrelid = to_regclass('features')
        and attributes.attnum > 0
        and not attributes.attisdropped
) as columns
cross join (
    select min(indexes.indkey::text) as written
    from pg_index as indexes
    where indexes.indrelid = to_regclass('features') and indexes.indisprimary
) as keys;
comment on view etl.feature_columns_digest is
'Eight characters that change with names, types or key of the columns';

-- Read by every request, in the statement or the snapshot that reads its rows.
create or replace view etl.features_state as
select
    published.run_id,
    floor(extract(epoch from published.published_at))::bigint as modified,
    published.content || '-' || columns.digest as version,
    columns.digest as columns
from etl.published
cross join etl.feature_columns_digest as columns;
comment on view etl.features_state is
'Version of features: run, seconds since 1970, content and columns';

-- The types below domains and arrays. Enums have labels; a composite type is a row.
create or replace view etl.feature_types as
with recursive
unwrapped as (
    select
        attributes.attnum as position,
        attributes.atttypid as type_id,
        0 as depth,
        false as is_array
    from pg_attribute as attributes
    where
        attributes.attrelid = to_regclass('features')
        and attributes.attnum > 0
        and not attributes.attisdropped
    union all
    select
        unwrapped.position,
        case
            when types.typtype = 'd' then types.typbasetype else types.typelem
        end as type_id,
        unwrapped.depth + 1 as depth,
        unwrapped.is_array or types.typtype <> 'd' as is_array
    from unwrapped
    inner join pg_type as types on unwrapped.type_id = types.oid
    where
        types.typtype = 'd'
        or types.typsubscript = 'array_subscript_handler'::regproc
)

select distinct on (unwrapped.position)
    unwrapped.position,
    format_type(unwrapped.type_id, null) as type,
    unwrapped.is_array,
    types.typtype = 'c' as is_row,
    (
        select array_agg(labels.enumlabel::text order by labels.enumsortorder)
        from pg_enum as labels
        where labels.enumtypid = unwrapped.type_id
    ) as labels
from unwrapped
inner join pg_type as types on unwrapped.type_id = types.oid
order by unwrapped.position asc, unwrapped.depth desc;
comment on view etl.feature_types is
'Base types of the columns of features: of domains, and of elements of arrays';

-- Columns that suit facets: all their values fit into one answer, of at most 1000, and
-- come again. Of measured numbers, lists and rows nobody picks a value.
create or replace view etl.facet_columns as
with
estimates as (
    select
        statistics.attname as name,
        tables.reltuples as total_rows,
        -- A negative number is a share of the rows, where values grow with these.
        case when statistics.n_distinct < 0 then -tables.reltuples else 1 end
        * statistics.n_distinct
        + (statistics.null_frac > 0)::integer as distinct_values
    from pg_class as tables
    inner join pg_namespace as schemas on tables.relnamespace = schemas.oid
    inner join pg_stats as statistics
        on
            schemas.nspname = statistics.schemaname
            and tables.relname = statistics.tablename
    where
        tables.oid = to_regclass('features')
        -- By its name pg_stats reads these columns alone, and not those of all tables.
        and statistics.tablename = 'features'
        and not statistics.inherited
)

select
    columns.position,
    columns.name
from etl.feature_columns as columns
inner join etl.feature_types as types on columns.position = types.position
inner join estimates on columns.name = estimates.name
where
    estimates.distinct_values between 2 and 1000
    and estimates.distinct_values <= estimates.total_rows / 2
    and not types.is_array
    and not types.is_row
    and types.type not in ('real', 'double precision', 'json', 'jsonb');
comment on view etl.facet_columns is
'Columns of features with few values, as the statistics of Postgres say';
