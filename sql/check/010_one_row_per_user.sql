-- Every user of users.csv has exactly one row, so users.csv names nobody twice.
-- reads:  features_next
select
    features_next.user_id,
    count(*) as total_rows
from features_next
group by features_next.user_id
having count(*) > 1
order by features_next.user_id;
