-- Shows that features is filled: which run filled it, and its first rows.
-- reads:  etl.published, etl.feature_columns, features
select
    published.run_id,
    published.published_at,
    (select count(*) from features) as total_rows
from etl.published as published;

-- The columns of the key are those of whatever pipeline it is. psql's \gexec ends
-- the statement.
-- noqa: disable=CV06
select
    format(
        'select * from features order by %s limit 20;',
        coalesce(
            string_agg(
                format('%I', columns.name), ', ' order by columns.key_position
            ),
            '1'
        )
    ) as query
from etl.feature_columns as columns
where columns.key_position is not null
\gexec
