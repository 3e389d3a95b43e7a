-- Tells whoever listens that features has new rows: `listen features`, and the payload
-- is the number of the run. It is sent by the transaction that publishes, so it comes
-- when the rows are there, and does not when that is rolled back.
create function etl.notify_features() returns trigger
language plpgsql as $$
begin
    perform pg_catalog.pg_notify('features', new.run_id::text);
    return null;
end;
$$;

-- A schema file that brings this row up to date publishes nothing.
create trigger notify_features after update on etl.published
for each row when (old.published_at is distinct from new.published_at)
execute function etl.notify_features();
