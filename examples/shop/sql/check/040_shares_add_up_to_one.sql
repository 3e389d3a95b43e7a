-- The shares of a category that sold something add up to one.
-- reads:  features_next
select
    features_next.category,
    sum(features_next.category_share) as total_share
from features_next
group by features_next.category
having
    sum(features_next.revenue) <> 0
    and abs(sum(features_next.category_share) - 1) > 1e-9
order by features_next.category;
