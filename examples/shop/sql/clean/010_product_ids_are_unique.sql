-- No two records of products.csv have the same product_id: the first one stays.
-- reads:  staging.products
-- writes: etl.found
select etl.find_repeats('staging.products', 'product_id');
