-- Lists that surely obey sql/clean/010: COPY takes them unseen. Numbers of at most 18
-- digits are bigint whatever their digits are.
insert into etl.plain_forms (source, column_name, plain, separator)
values
(
    'user_experiments',
    'experiment_compound_ids',
    '(?:[0-9]{0,18};)*[0-9]{0,18}',
    ';'
);
