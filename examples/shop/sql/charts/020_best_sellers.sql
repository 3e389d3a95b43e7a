-- How many of each product were ordered, for the ten that were ordered most.
-- title:  Best sellers
-- reads:  features
-- On a tie the lower number comes first, as in features.
select
    coalesce(features.product_name, 'number ' || features.product_id) as label,
    features.total_quantity as value
from features
order by features.total_quantity desc, features.product_id asc
limit 10;
