-- pandas writes the whole numbers of a column with a gap as 1.0, 2.0: they stay whole.
alter table etl.type_forms add column padding text;
comment on column etl.type_forms.padding is
'The end of a value that says nothing, and is taken off before the cast; null for none';

update etl.type_forms
set form = '[+-]?[0-9]+(?:\.0+)?', padding = '\.0+$'
where type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype);

-- They have other columns and arguments now, or are called no more.
drop function if exists etl.columns_of_file(text, text[]);
drop function if exists etl.record_message(text, text[], integer);
drop function if exists etl.reject_long(bigint, text, bigint, text, bigint, bigint);
