-- Every product has exactly one row.
-- reads:  features_next
select
    features_next.product_id,
    count(*) as total_rows
from features_next
group by features_next.product_id
having count(*) > 1
order by features_next.product_id;
