-- Fills features_next.
-- grain:  one row per product, ordered or not
-- reads:  staging.products, staging.orders, staging.order_lines
-- writes: features_next
insert into features_next (
    product_id,
    product_name,
    category,
    total_orders,
    total_quantity,
    revenue,
    category_share,
    rank_in_category,
    last_ordered_on
)
with
sales as (
    select
        order_lines.product_id,
        count(distinct order_lines.order_id) as total_orders,
        sum(order_lines.quantity) as total_quantity,
        sum(order_lines.quantity * order_lines.unit_price) as revenue,
        max(orders.ordered_on) as last_ordered_on
    from staging.order_lines as order_lines
    inner join staging.orders as orders on order_lines.order_id = orders.order_id
    group by order_lines.product_id
),

product_sales as (
    select
        products.product_id,
        nullif(btrim(products.product_name, E' \t'), '') as product_name,
        nullif(btrim(products.category, E' \t'), '') as category,
        coalesce(sales.total_orders, 0) as total_orders,
        coalesce(sales.total_quantity, 0) as total_quantity,
        coalesce(sales.revenue, 0) as revenue,
        sales.last_ordered_on
    from staging.products as products
    left join sales on products.product_id = sales.product_id
)

select
    product_sales.product_id,
    product_sales.product_name,
    product_sales.category,
    product_sales.total_orders,
    product_sales.total_quantity,
    product_sales.revenue,
    coalesce(
        product_sales.revenue
        / nullif(sum(product_sales.revenue) over same_category, 0),
        0
    ) as category_share,
    -- On a tie the lower number comes first, so that every run gives the same ranks.
    row_number() over (
        same_category
        order by product_sales.revenue desc, product_sales.product_id asc
    ) as rank_in_category,
    product_sales.last_ordered_on
from product_sales
-- Products without a category make up one of their own.
window same_category as (partition by product_sales.category)
order by product_sales.product_id;
