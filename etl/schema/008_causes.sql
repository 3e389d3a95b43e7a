-- A record may be left out only because another one was: an order, because its customer
-- was rejected. Such rejects are listed after all others, and name the record that they
-- follow from. A rule finds them by the keys of the rejected records.
alter table etl.rejects
add column keys jsonb,
add column cause_file text,
add column cause_line bigint;
alter table etl.rejects
add column is_consequence boolean not null
generated always as (cause_file is not null) stored;
comment on column etl.rejects.keys is
'Values of its required columns that are valid, by column; null where it has no fields';
comment on column etl.rejects.cause_file is
'File of the rejected record that this one follows from; null for a real cause';
comment on column etl.rejects.cause_line is 'Line of that record';
comment on column etl.rejects.is_consequence is
'Whether it follows from another rejected record';

-- Rejects are read in this order.
alter table etl.rejects drop constraint rejects_pkey;
alter table etl.rejects add primary key (run_id, is_consequence, file, line, id);

alter table etl.found
add column cause_file text,
add column cause_line bigint;
comment on column etl.found.cause_file is
'File of the rejected record that this one follows from; null for a real cause';
comment on column etl.found.cause_line is 'Line of that record';

alter table etl.sought
add column keys jsonb,
add column cause_file text,
add column cause_line bigint;
comment on column etl.sought.keys is 'Values of its required columns, by column';
comment on column etl.sought.cause_file is
'File of the rejected record that this one follows from; null for a real cause';
comment on column etl.sought.cause_line is 'Line of that record';

comment on column etl.runs.files is
'Per CSV file: bytes, sha256, records, rejected, rejected_by_reason';
