-- No order leaves before it is made. The rule compares two columns of one record.
-- reads:  staging.orders
-- writes: etl.found
insert into etl.found (source, row_id, column_name, value, reason, message)
select
    orders.tableoid as source,
    orders.ctid as row_id,
    'shipped_on' as column_name,
    orders.shipped_on::text as value,
    'shipped_too_early' as reason,
    format('order %s was made on %s', orders.order_id, orders.ordered_on) as message
from staging.orders as orders
where orders.shipped_on < orders.ordered_on;
