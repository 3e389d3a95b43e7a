-- What the catalog says of a pipeline's tables: the engine asks here and knows nothing.

create view etl.sources as
select
    tables.relname as name,
    array_agg(attributes.attname::text order by attributes.attnum) as columns
from pg_class as tables
inner join pg_attribute as attributes on tables.oid = attributes.attrelid
where
    tables.relnamespace = to_regnamespace('staging')
    and tables.relkind in ('r', 'p')
    and attributes.attnum > 0
    and not attributes.attisdropped
    and attributes.attgenerated = ''
group by tables.relname;
comment on view etl.sources is 'The tables in staging, each filled from <name>.csv';

create view etl.feature_columns as
select
    attributes.attnum as position,
    attributes.attname::text as name,
    format_type(attributes.atttypid, attributes.atttypmod) as type,
    coalesce(keys.indnatts = 1 and keys.indkey[0] = attributes.attnum, false) as is_key,
    col_description(attributes.attrelid, attributes.attnum) as description
from pg_attribute as attributes
left join pg_index as keys
    on attributes.attrelid = keys.indrelid and keys.indisprimary
where
    attributes.attrelid = to_regclass('features')
    and attributes.attnum > 0
    and not attributes.attisdropped;
comment on view etl.feature_columns is 'The columns of features; is_key marks its key';
