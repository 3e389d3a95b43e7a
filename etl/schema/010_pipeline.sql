-- Which pipeline this database holds, for the message to whoever starts another on it.
create table etl.pipeline (
    singleton boolean primary key default true check (singleton),
    name      text
);
comment on table etl.pipeline is 'The pipeline that this database holds; one row';
comment on column etl.pipeline.singleton is 'Always true: there is one such row';
comment on column etl.pipeline.name is
'Name of the folder that holds its sql/; null until the next start';
insert into etl.pipeline default values;
