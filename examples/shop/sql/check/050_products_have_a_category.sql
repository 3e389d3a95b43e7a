-- Every product has a category. Without one it is ranked among those that lack it too.
-- reads:  features_next
-- severity: warn
select
    features_next.product_id,
    features_next.product_name
from features_next
where features_next.category is null
order by features_next.product_id;
