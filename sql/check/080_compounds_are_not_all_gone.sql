-- A compounds.csv without records does not take the names of all compounds away.
-- reads:  staging.compounds, features
-- overridden_by: allow_empty
select
    'compounds.csv' as file,
    count(features.most_common_compound_name) as published_names,
    0 as new_compounds
from features
where not exists (select 1 from staging.compounds)
having count(features.most_common_compound_name) > 0;
