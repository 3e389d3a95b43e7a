-- Whether a run may publish fewer rows than a check takes for an accident.
alter table etl.runs add column allow_empty boolean not null default false;
comment on column etl.runs.allow_empty is
'Whether checks that ask for rows where there were some only warned';

-- It takes another parameter now.
drop function if exists etl.begin_run(boolean);
