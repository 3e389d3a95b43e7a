-- No two records of compounds.csv have the same compound_id: the first one stays.
-- rejects: compounds.compound_id
-- reason:  duplicate_key
-- keeps:   first
-- reads:   staging.compounds
select numbered.compound_id
from (
    select
        compounds.compound_id,
        row_number() over (partition by compounds.compound_id) as nth
    from staging.compounds
) as numbered
where numbered.nth = 2;
