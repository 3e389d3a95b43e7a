-- The compounds of an experiment are whole numbers, separated by semicolons: blanks
-- around them and empty elements, as after a trailing semicolon, do no harm, and 1.0 is
-- the number 1. Lists in the form of sql/schema/003 obey; rows with others are among
-- the odd ones.
-- reads:  staging.user_experiments, etl.odd_rows
-- writes: etl.found
insert into etl.found (source, row_id, column_name, value, reason, message)
select
    experiments.tableoid as source,
    experiments.ctid as row_id,
    'experiment_compound_ids' as column_name,
    btrim(experiments.experiment_compound_ids, E' \t') as value,
    'invalid_value' as reason,
    format('"%s" is not the number of a compound', left(wrong.token, 100)) as message
from etl.odd_rows as odd
inner join staging.user_experiments as experiments
    on odd.source = experiments.tableoid and odd.row_id = experiments.ctid
cross join lateral (
    select btrim(tokens.token, E' \t') as token
    from
        string_to_table(
            experiments.experiment_compound_ids, ';'
        ) with ordinality as tokens (token, place)
    where
        btrim(tokens.token, E' \t') <> ''
        and (
            btrim(tokens.token, E' \t') !~ '^[+-]?[0-9]+(\.0+)?$'
            or not pg_input_is_valid(
                regexp_replace(btrim(tokens.token, E' \t'), '\.0+$', ''), 'bigint'
            )
        )
    order by tokens.place
    limit 1
) as wrong;
