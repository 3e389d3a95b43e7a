-- No user of users.csv has more than one row. Counting sorts the keys alone, which
-- takes a sixth of the time of grouping them: groups are made where the counts differ.
-- reads:  features_next
select
    features_next.user_id,
    count(*) as total_rows
from features_next
where (
    select count(*) > count(distinct counted.user_id)
    from features_next as counted
)
group by features_next.user_id
having count(*) > 1
order by features_next.user_id;
