-- What a pipeline says of its tables, and what is seen of its keys in a run.

create table etl.built_tables (
    target regclass primary key
);
comment on table etl.built_tables is
'Tables that sql/build fills beside features_next: every run empties them';
comment on column etl.built_tables.target is 'The table';

create table etl.unique_keys (
    source      text not null,
    column_name text not null,
    rule        text not null,
    primary key (source, column_name)
);
comment on table etl.unique_keys is 'Whole numbers that no two rows of a source share';
comment on column etl.unique_keys.source is 'The table in staging';
comment on column etl.unique_keys.column_name is 'The column';
comment on column etl.unique_keys.rule is 'The file of sql/clean that sees to it';

create unlogged table etl.key_ranges (
    source      text    not null,
    column_name text    not null,
    total_rows  bigint  not null,
    lowest_key  bigint  not null,
    highest_key bigint  not null,
    may_repeat  boolean not null,
    primary key (source, column_name)
) with (autovacuum_enabled = false);
comment on table etl.key_ranges is 'What was seen of the keys of a file: a row a key';
comment on column etl.key_ranges.source is 'The table in staging';
comment on column etl.key_ranges.column_name is 'The column';
comment on column etl.key_ranges.total_rows is 'Its rows, as they were loaded';
comment on column etl.key_ranges.lowest_key is 'The lowest key';
comment on column etl.key_ranges.highest_key is 'The highest key';
comment on column etl.key_ranges.may_repeat is
'Whether one looks repeated: if not, one may yet be, where keys leave gaps';
