-- What people read, and what a run fills before it is published.
-- grain:  one row per product of products.csv, ordered or not
create table features (
    product_id       bigint primary key,
    product_name     text,
    category         text,
    total_orders     bigint           not null,
    total_quantity   bigint           not null,
    revenue          numeric          not null,
    category_share   double precision not null,
    rank_in_category bigint           not null,
    last_ordered_on  date
);
comment on table features is 'One row per product: how often it sells, and its rank';
comment on column features.product_id is 'Number of the product';
comment on column features.product_name is 'Name of the product';
comment on column features.category is 'Its category, null where the file has none';
comment on column features.total_orders is 'Orders with the product, 0 without any';
comment on column features.total_quantity is 'How many were ordered';
comment on column features.revenue is 'Quantity times price over all its order lines';
comment on column features.category_share is
'Its part of the revenue of its category, from 0 to 1; 0 where that sold nothing';
comment on column features.rank_in_category is
'Its rank by revenue within its category; on a tie the lower number comes first';
comment on column features.last_ordered_on is 'Day of the last order with it';

-- No key, for rows come faster without one; a check asserts it before publish.
create unlogged table features_next (
    like features including comments
) with (autovacuum_enabled = false);
comment on table features_next is 'The coming features, filled by sql/build';
