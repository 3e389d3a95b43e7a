-- Every line is of a product that products.csv names and whose record was taken.
-- reads:  staging.order_lines, staging.products
-- writes: etl.found
insert into etl.found (source, row_id, column_name, value, reason, message)
select
    order_lines.tableoid as source,
    order_lines.ctid as row_id,
    'product_id' as column_name,
    order_lines.product_id::text as value,
    'unknown_product' as reason,
    format(
        'no record of products.csv with product_id %s was taken',
        order_lines.product_id
    ) as message
from staging.order_lines as order_lines
left join staging.products as products
    on order_lines.product_id = products.product_id
where products.product_id is null;
