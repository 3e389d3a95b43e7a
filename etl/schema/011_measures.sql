-- What is measured of the database: when a run last published and how many rows, and
-- whether one is under way. Counting rows takes its time, so publish notes them.

alter table etl.published add column rows bigint;
comment on column etl.published.rows is
'Rows that were published; null where that was before they were noted';

-- As before, and the number of rows.
create or replace function etl.publish(run_id bigint) returns bigint
language plpgsql as $$
declare
    columns   text;
    row_total bigint;
begin
    select string_agg(quote_ident(attributes.attname), ', ' order by attributes.attnum)
    into columns
    from pg_attribute as attributes
    where
        attributes.attrelid = 'features_next'::regclass
        and attributes.attnum > 0
        and not attributes.attisdropped
        and attributes.attgenerated = '';

    -- A foreign key to features looks at the rows when they are all there again.
    set constraints all deferred;
    delete from features;
    execute format(
        'insert into features (%1$s) select %1$s from features_next', columns
    );
    get diagnostics row_total = row_count;

    update etl.published
    set
        run_id = publish.run_id,
        published_at = clock_timestamp(),
        rows = row_total;
    update etl.runs
    set state = 'succeeded', finished_at = clock_timestamp()
    where runs.id = publish.run_id and runs.state = 'running';
    if not found then
        raise exception 'run % is over', run_id
            using errcode = 'invalid_transaction_state';
    end if;
    return row_total;
end;
$$;

create view etl.measures as
select
    extract(epoch from published.published_at)::double precision as published_at,
    published.rows,
    (
        select count(*)
        from etl.locks
        where locks.leads
    ) as runs_under_way
from etl.published;
comment on view etl.measures is
'What GET /metrics tells of the database: last publish, its rows, runs under way';
