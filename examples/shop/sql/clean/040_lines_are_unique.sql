-- No two records of order_lines.csv have the same order_id and line_no: of those that
-- share both, the first one stays. The engine tells them by column_name and value.
-- reads:  staging.order_lines
-- writes: etl.found
with
repeated as (
    select
        order_lines.order_id,
        order_lines.line_no
    from staging.order_lines as order_lines
    group by order_lines.order_id, order_lines.line_no
    having count(*) > 1
)

insert into etl.found (source, row_id, column_name, value, reason)
select
    order_lines.tableoid as source,
    order_lines.ctid as row_id,
    'order_id, line_no' as column_name,
    order_lines.order_id || ', ' || order_lines.line_no as value,
    'duplicate_key' as reason
from staging.order_lines as order_lines
inner join repeated
    on
        order_lines.order_id = repeated.order_id
        and order_lines.line_no = repeated.line_no;
