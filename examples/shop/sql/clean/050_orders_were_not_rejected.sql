-- A line is left out with its order: where the order's record was rejected, the message
-- names that record. Orders that orders.csv does not name are left for 060.
-- reads:  staging.order_lines, staging.orders, etl.rejects
-- writes: etl.found
with
-- An order may have several rejected records: the first one is named.
rejected_orders as (
    select distinct on (rejected.keys ->> 'order_id')
        (rejected.keys ->> 'order_id')::bigint as order_id,
        rejected.line,
        rejected.message,
        rejected.cause_file,
        rejected.cause_line
    from etl.rejected_records('orders.csv') as rejected
    order by rejected.keys ->> 'order_id', rejected.line
)

insert into etl.found (
    source,
    row_id,
    column_name,
    value,
    reason,
    message,
    cause_file,
    cause_line
)
select
    order_lines.tableoid as source,
    order_lines.ctid as row_id,
    'order_id' as column_name,
    order_lines.order_id::text as value,
    'rejected_order' as reason,
    format(
        'its order is orders.csv, line %s, which was rejected: %s',
        rejected_orders.line,
        rejected_orders.message
    ) as message,
    rejected_orders.cause_file,
    rejected_orders.cause_line
from staging.order_lines as order_lines
inner join rejected_orders on order_lines.order_id = rejected_orders.order_id
left join staging.orders as orders on order_lines.order_id = orders.order_id
where orders.order_id is null;
