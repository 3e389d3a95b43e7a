-- The raw path joins what it split to what of it is good. The planner takes the records
-- that it is given for few, and a nested loop over 10,000 of them takes 12 s, where a
-- hash join takes 0.2: so it has none, as etl.locate has none.
alter function etl.take_apart(
    bigint, text, regclass, text[], text, text[], bigint[]
) set enable_nestloop = off;
