-- No two records of products.csv have the same product_id: the first one stays.
-- rejects: products.product_id
-- reason:  duplicate_key
-- keeps:   first
-- reads:   staging.products
select numbered.product_id
from (
    select
        products.product_id,
        row_number() over (partition by products.product_id) as nth
    from staging.products
) as numbered
where numbered.nth = 2;
