-- The products' revenue adds up to that of all order lines.
-- reads:  features_next, staging.order_lines
with
totals as (
    select
        (
            select coalesce(sum(order_lines.quantity * order_lines.unit_price), 0)
            from staging.order_lines as order_lines
        ) as revenue_of_lines,
        (
            select coalesce(sum(features_next.revenue), 0) from features_next
        ) as revenue_of_products
)

select
    totals.revenue_of_lines,
    totals.revenue_of_products
from totals
where totals.revenue_of_lines <> totals.revenue_of_products;
