-- A line is left out with its order: where the order's record was rejected, the message
-- names that record, the first where there are several. Orders that orders.csv does not
-- name are left for 060.
-- rejects: order_lines.order_id
-- reason:  rejected_order
-- reads:   staging.orders, etl.runs, etl.rejects
select distinct on (rejected_orders.order_id)
    rejected_orders.order_id,
    format(
        'its order is orders.csv, line %s, which was rejected: %s',
        rejected_orders.line,
        rejected_orders.message
    ) as message,
    rejected_orders.cause_file,
    rejected_orders.cause_line
from (
    select
        (rejected.keys ->> 'order_id')::bigint as order_id,
        rejected.*
    from etl.rejected_records('orders.csv') as rejected
) as rejected_orders
left join staging.orders as orders on rejected_orders.order_id = orders.order_id
where
    rejected_orders.order_id is not null
    and orders.order_id is null
order by rejected_orders.order_id, rejected_orders.line;
