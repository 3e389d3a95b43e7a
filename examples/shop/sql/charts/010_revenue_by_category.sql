-- What the products of each category have brought in, the largest first.
-- title:  Revenue by category
-- reads:  features
select
    coalesce(features.category, 'without a category') as label,
    sum(features.revenue) as value
from features
group by features.category
order by sum(features.revenue) desc, features.category asc;
