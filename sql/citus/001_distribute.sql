-- Distributes what holds a row for each user or experiment over the nodes of Citus, by
-- the user: so each node builds the features of its users from its own rows. What every
-- node needs whole is small, and a reference table, with a copy on each node. features
-- stays an ordinary table on the coordinator: its readers see the old rows or the new,
-- and never a mix. Rows are not moved: the next run loads and builds them again.
truncate staging.users, staging.user_experiments, staging.compounds;
truncate activity_next, activity_changes, totals_next, features_next;

select create_distributed_table('staging.users', 'user_id');
select create_distributed_table(
    'staging.user_experiments', 'user_id', colocate_with => 'staging.users'
);
select create_distributed_table(
    'activity_next', 'user_id', colocate_with => 'staging.users'
);
select create_distributed_table(
    'activity_changes', 'user_id', colocate_with => 'staging.users'
);
select create_distributed_table(
    'features_next', 'user_id', colocate_with => 'staging.users'
);

select create_reference_table('staging.compounds');
select create_reference_table('totals_next');
