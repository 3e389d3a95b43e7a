-- No two records of orders.csv have the same order_id: the first one stays.
-- reads:  staging.orders
-- writes: etl.found
select etl.find_repeats('staging.orders', 'order_id');
