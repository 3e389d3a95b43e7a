-- No two records of order_lines.csv have the same order_id and line_no: of those that
-- share both, the first one stays.
-- rejects: order_lines (order_id, line_no)
-- reason:  duplicate_key
-- keeps:   first
-- reads:   staging.order_lines
select
    numbered.order_id,
    numbered.line_no
from (
    select
        order_lines.order_id,
        order_lines.line_no,
        row_number() over (
            partition by order_lines.order_id, order_lines.line_no
        ) as nth
    from staging.order_lines
) as numbered
where numbered.nth = 2;
