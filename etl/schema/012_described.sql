-- What the description of the service says of features: how its columns look as JSON.

-- A domain is what it is made of, an array what its elements are; enums have labels,
-- and a composite type is a row.
create view etl.feature_types as
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
'What the columns of features are made of: domains and arrays taken apart';
