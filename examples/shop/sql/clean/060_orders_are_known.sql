-- Every line is of an order that orders.csv names.
-- rejects: order_lines.order_id
-- reason:  unknown_order
-- reads:   staging.order_lines, staging.orders
select distinct
    order_lines.order_id,
    format('orders.csv has no order %s', order_lines.order_id) as message
from staging.order_lines
left join staging.orders as orders on order_lines.order_id = orders.order_id
where orders.order_id is null;
