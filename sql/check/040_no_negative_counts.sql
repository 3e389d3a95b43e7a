-- Counts and averages are no less than zero, and shares lie between zero and one.
-- reads:  features_next
select
    features_next.user_id,
    features_next.total_experiments,
    features_next.avg_experiments,
    features_next.experiments_pct
from features_next
where
    features_next.total_experiments < 0
    or features_next.avg_experiments < 0
    or features_next.experiments_pct not between 0 and 1
order by features_next.user_id;
