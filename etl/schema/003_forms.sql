-- What values look like. COPY takes more than people mean (0x10, NaN, today), and once
-- a value is loaded its text is gone. So the bytes of a file are matched with these
-- forms before, and records that do not match go the raw path, where SQL looks at them.
-- The regular expressions are such as Postgres and Python share.

-- What matches plain has the form and is a value of its type: COPY may take it unseen.
create table etl.type_forms (
    type    regtype primary key,
    form    text not null,
    plain   text not null,
    frame   text,
    meaning text not null
);
comment on table etl.type_forms is 'What people write for a value of a type';
comment on column etl.type_forms.type is 'The type';
comment on column etl.type_forms.form is 'What its values look like';
comment on column etl.type_forms.plain is 'What surely is one: COPY may take it unseen';
comment on column etl.type_forms.frame is
'What is left of a plain value without its digits; null where that proves nothing';
comment on column etl.type_forms.meaning is 'The form in words, for messages';

insert into etl.type_forms (type, form, plain, frame, meaning)
select
    integers.type,
    '[+-]?[0-9]+' as form,
    integers.plain,
    '[+-]?' as frame,
    'a whole number' as meaning
from (
    values
    ('smallint'::regtype, '[+-]?[0-9]{1,4}'),
    ('integer'::regtype, '[+-]?[0-9]{1,9}'),
    ('bigint'::regtype, '[+-]?(?:[0-9]{1,18}(?![0-9])|[1-8][0-9]{18})')
) as integers (type, plain)
union all
select
    fractions.type,
    '[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?' as form,
    '[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?' as plain,
    '[+-]?\.?' as frame,
    'a number' as meaning
from (
    values ('real'::regtype), ('double precision'::regtype), ('numeric'::regtype)
) as fractions (type)
union all
select
    'date'::regtype as type,
    '[0-9]{4}-[0-9]{2}-[0-9]{2}' as form,
    '[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])'
    '|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)' as plain,
    null as frame,
    'a date written YYYY-MM-DD' as meaning
union all
select
    times.type,
    '[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?'
    '(?: ?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?))?' as form,
    '[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])'
    '|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)'
    '[ T](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?Z?' as plain,
    null as frame,
    'a time written YYYY-MM-DD hh:mm:ss' as meaning
from (
    values ('timestamp'::regtype), ('timestamptz'::regtype)
) as times (type);

-- Filled by a pipeline, for columns of text that have a rule in sql/clean.
create table etl.plain_forms (
    source      text not null,
    column_name text not null,
    plain       text not null,
    separator   text not null,
    primary key (source, column_name)
);
comment on table etl.plain_forms is
'Columns of text with a rule in sql/clean: what surely obeys it';
comment on column etl.plain_forms.source is 'Table in staging';
comment on column etl.plain_forms.column_name is 'Column of it';
comment on column etl.plain_forms.separator is
'Character that beside digits and blanks is all that stands in plain values';
comment on column etl.plain_forms.plain is 'What surely obeys: COPY may take it unseen';
