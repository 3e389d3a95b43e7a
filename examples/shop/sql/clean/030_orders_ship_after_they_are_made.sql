-- No order leaves before it is made. The rule compares two columns of one record.
-- rejects: orders.shipped_on
-- reason:  shipped_too_early
-- reads:   staging.orders
select
    orders.order_id,
    orders.shipped_on,
    format('order %s was made on %s', orders.order_id, orders.ordered_on) as message
from staging.orders
where orders.shipped_on < orders.ordered_on;
