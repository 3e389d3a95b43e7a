-- For a database whose engine ends with the schema file of this name, of the time when
-- functions stood among the tables: brings its tables to those of etl/schema/005. What
-- follows these comes then, and etl/functions replaces the functions that are left.

comment on table etl.applied is 'SQL files that this database has';
comment on column etl.applied.folder is
'engine (etl/schema), functions (etl/functions) or pipeline (sql/schema)';
comment on column etl.published.rows is 'Rows that were published';

drop function etl.few_values(integer);
drop function etl.blocks_of_found();
drop function etl.count_found(boolean);
drop function etl.locate(bigint, text, xid, text[], text, text[], bigint[], boolean);
drop function etl.reject_found(bigint);
drop function etl.slice_begin(regclass, integer);
drop function etl.words_with_repeats(regclass, etl.key_ranges);

alter table etl.found
drop column loaded_by,
drop column content,
drop column line,
drop column record;
