-- Every line is of an order that orders.csv names.
-- reads:  staging.order_lines, staging.orders
-- writes: etl.found
insert into etl.found (source, row_id, column_name, value, reason, message)
select
    order_lines.tableoid as source,
    order_lines.ctid as row_id,
    'order_id' as column_name,
    order_lines.order_id::text as value,
    'unknown_order' as reason,
    format('orders.csv has no order %s', order_lines.order_id) as message
from staging.order_lines as order_lines
left join staging.orders as orders on order_lines.order_id = orders.order_id
where orders.order_id is null;
