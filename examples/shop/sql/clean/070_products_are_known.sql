-- Every line is of a product that products.csv names and whose record was taken.
-- rejects: order_lines.product_id
-- reason:  unknown_product
-- reads:   staging.order_lines, staging.products
select distinct
    order_lines.product_id,
    format(
        'no record of products.csv with product_id %s was taken',
        order_lines.product_id
    ) as message
from staging.order_lines
left join staging.products as products
    on order_lines.product_id = products.product_id
where products.product_id is null;
