-- A users.csv without records does not wipe a full table.
-- reads:  features_next, features
-- overridden_by: allow_empty
select
    'users.csv' as file,
    count(*) as published_rows,
    0 as new_rows
from features
where not exists (select 1 from features_next limit 1)
having count(*) > 0;
