-- The raw records: data/<name>.csv goes to staging.<name>. A column that is not null
-- may not be empty in the file; whatever else is empty there is null here.
create schema staging;
comment on schema staging is 'One table per CSV file';

create unlogged table staging.products (
    product_id   bigint not null,
    product_name text,
    category     text
) with (autovacuum_enabled = false);
comment on table staging.products is 'products.csv: one row per product';
comment on column staging.products.product_id is 'Number of the product';
comment on column staging.products.product_name is 'Name as in the file';
comment on column staging.products.category is 'Category as in the file';

create unlogged table staging.orders (
    order_id   bigint not null,
    customer   text,
    ordered_on date   not null,
    shipped_on date
) with (autovacuum_enabled = false);
comment on table staging.orders is 'orders.csv: one row per order';
comment on column staging.orders.order_id is 'Number of the order';
comment on column staging.orders.customer is 'Who ordered';
comment on column staging.orders.ordered_on is 'Day of the order';
comment on column staging.orders.shipped_on is 'Day it left, empty until then';

create unlogged table staging.order_lines (
    order_id   bigint  not null,
    line_no    integer not null,
    product_id bigint  not null,
    quantity   integer not null,
    unit_price numeric not null
) with (autovacuum_enabled = false);
comment on table staging.order_lines is
'order_lines.csv: one row per line of an order';
comment on column staging.order_lines.order_id is 'The order that it belongs to';
comment on column staging.order_lines.line_no is 'Its number within that order';
comment on column staging.order_lines.product_id is 'The product that was ordered';
comment on column staging.order_lines.quantity is 'How many of it';
comment on column staging.order_lines.unit_price is 'Price of one, as it was paid';
