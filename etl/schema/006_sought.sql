-- What rules found, on its way to etl.rejects: filled from etl.found, with what is
-- known of each row.
create unlogged table etl.sought (
    file        text     not null,
    block       bigint   not null,
    source      regclass not null,
    row_id      tid      not null,
    content     text     not null,
    column_name text,
    value       text,
    reason      text     not null,
    message     text,
    line        bigint,
    record      text
) with (autovacuum_enabled = false);
comment on table etl.sought is 'Rows that rules found, on their way to etl.rejects';
comment on column etl.sought.file is 'Their file';
comment on column etl.sought.block is 'Transaction that loaded them: their xmin';
comment on column etl.sought.source is 'Their table: its tableoid';
comment on column etl.sought.row_id is 'Their place in it: their ctid';
comment on column etl.sought.content is 'What the row holds, as one text';
comment on column etl.sought.column_name is
'Column at fault, null for the whole record';
comment on column etl.sought.value is 'Its value';
comment on column etl.sought.reason is 'What is wrong, in one word of a fixed set';
comment on column etl.sought.message is 'What is wrong, for people';
comment on column etl.sought.line is 'Line in the file, once it is found';
comment on column etl.sought.record is 'The record as in the file, once it is found';
create index sought_by_block on etl.sought (block);
