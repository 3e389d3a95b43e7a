-- No two records of compounds.csv have the same compound_id: the first one stays.
-- reads:  staging.compounds
-- writes: etl.found
select etl.find_repeats('staging.compounds', 'compound_id');
