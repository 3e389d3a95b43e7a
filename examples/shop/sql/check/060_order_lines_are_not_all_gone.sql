-- An order_lines.csv without records does not wipe what was sold.
-- reads:  staging.order_lines, features
-- overridden_by: allow_empty
select
    'order_lines.csv' as file,
    sum(features.total_quantity) as published_quantity,
    0 as new_quantity
from features
where not exists (select 1 from staging.order_lines)
having sum(features.total_quantity) > 0;
