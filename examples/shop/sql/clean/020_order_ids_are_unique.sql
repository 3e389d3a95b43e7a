-- No two records of orders.csv have the same order_id: the first one stays.
-- rejects: orders.order_id
-- reason:  duplicate_key
-- keeps:   first
-- reads:   staging.orders
select numbered.order_id
from (
    select
        orders.order_id,
        row_number() over (partition by orders.order_id) as nth
    from staging.orders
) as numbered
where numbered.nth = 2;
