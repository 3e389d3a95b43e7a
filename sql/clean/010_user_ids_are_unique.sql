-- No two records of users.csv have the same user_id: the first one stays.
-- rejects:     users.user_id
-- reason:      duplicate_key
-- keeps:       first
-- verified_by: check/020_one_row_per_user.sql
-- reads:       staging.users
select numbered.user_id
from (
    select
        users.user_id,
        row_number() over (partition by users.user_id) as nth
    from staging.users
) as numbered
where numbered.nth = 2;
