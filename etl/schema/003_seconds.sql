-- How long a run took. The difference of its times is not that where the clock was set
-- meanwhile, so its server measures it.
alter table etl.runs add column seconds numeric not null default 0;
comment on column etl.runs.seconds is 'How long it had taken when it was last saved';

update etl.runs
set seconds = greatest(round(extract(epoch from finished_at - started_at), 3), 0)
where finished_at is not null;

drop function if exists etl.update_run(
    bigint, text, text, text, json, json, json, boolean, json
);
