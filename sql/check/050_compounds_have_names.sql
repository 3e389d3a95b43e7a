-- A user's most common compound has a name: compounds.csv may lack it, or its name.
-- reads:  features_next
-- severity: warn
select
    features_next.user_id,
    features_next.most_common_compound_id
from features_next
where
    features_next.most_common_compound_id is not null
    and features_next.most_common_compound_name is null
order by features_next.user_id;
