-- Every experiment is of a user whom users.csv names and whose record was taken. The
-- numbers of users lie close together as a rule: then one bit per number from the first
-- to the last tells who is known, and to look at it takes 20 ns, where a join with a
-- million users takes 500. Numbers that lie far apart are joined. Where there is no
-- user at all, though features is full, sql/check/010 has the word. Runs in etl.slices.
-- reads:  staging.users, staging.user_experiments
-- writes: etl.found
with
span as (
    select
        min(users.user_id) as first_id,
        max(users.user_id) as last_id,
        coalesce(
            max(users.user_id)::numeric - min(users.user_id) < 64 * count(*),
            not exists (select from features)
        ) as is_dense
    from staging.users as users
),

-- Eight numbers a byte, the lowest in the lowest bit, as get_bit() counts them.
bytes as (
    select
        (users.user_id - (select span.first_id from span)) / 8 as place,
        bit_or(
            1 << ((users.user_id - (select span.first_id from span)) % 8)::integer
        ) as bits
    from staging.users as users
    where (select span.is_dense from span)
    group by (users.user_id - (select span.first_id from span)) / 8
),

known as (
    select
        string_agg(
            set_byte('\x00', 0, coalesce(bytes.bits, 0)), '' order by places.place
        ) as bits
    from span
    cross join
        lateral generate_series(
            0, case when span.is_dense then (span.last_id - span.first_id) / 8 end
        ) as places (place)
    left join bytes on places.place = bytes.place
)

insert into etl.found (source, row_id, column_name, value, reason, message)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'user_id' as column_name,
    experiments.user_id::text as value,
    'unknown_user' as reason,
    format('no record of users.csv with user_id %s was taken', experiments.user_id)
        as message
from staging.user_experiments as experiments
where
    experiments.ctid >= etl.slice_begin('staging.user_experiments', etl.slice())
    and experiments.ctid < etl.slice_begin('staging.user_experiments', etl.slice() + 1)
    and (select span.is_dense from span)
    and case
        when
            experiments.user_id between (select span.first_id from span)
            and (select span.last_id from span)
            then get_bit(
                (select known.bits from known),
                experiments.user_id - (select span.first_id from span)
            ) = 0
        else true
    end;

insert into etl.found (source, row_id, column_name, value, reason, message)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'user_id' as column_name,
    experiments.user_id::text as value,
    'unknown_user' as reason,
    format('no record of users.csv with user_id %s was taken', experiments.user_id)
        as message
from staging.user_experiments as experiments
where
    experiments.ctid >= etl.slice_begin('staging.user_experiments', etl.slice())
    and experiments.ctid < etl.slice_begin('staging.user_experiments', etl.slice() + 1)
    and (
        select max(users.user_id)::numeric - min(users.user_id) >= 64 * count(*)
        from staging.users as users
    )
    and not exists (
        select from staging.users as users
        where users.user_id = experiments.user_id
    );
