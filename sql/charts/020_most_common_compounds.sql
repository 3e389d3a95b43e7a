-- Users whose most common compound it is, for the ten compounds with the most of them.
-- title:  Most common compounds
-- reads:  features
-- On a tie the lowest number comes first, as in features.
with
counted as (
    select
        features.most_common_compound_id as compound_id,
        features.most_common_compound_name as compound_name,
        count(*) as users
    from features
    where features.most_common_compound_id is not null
    group by features.most_common_compound_id, features.most_common_compound_name
)

select
    coalesce(counted.compound_name, 'number ' || counted.compound_id) as label,
    counted.users as value
from counted
order by counted.users desc, counted.compound_id asc
limit 10;
