-- What runs when: the share of a connection, and the rules that are looked at though a
-- check would tell.

-- Which share of the rows a connection is to take, and of how many, where a file runs
-- on several at once; the whole where it does not.
create or replace function etl.slice() returns integer
language sql stable as $$
    select coalesce(nullif(current_setting('etl.slice', true), ''), '0')::integer;
$$;

create or replace function etl.slices() returns integer
language sql stable as $$
    select coalesce(nullif(current_setting('etl.slices', true), ''), '1')::integer;
$$;

-- The rules that are to be looked at before the build, though a check would tell: those
-- that found something in the last run, and those of keys that look repeated.
create or replace function etl.rules_in_doubt(run_id bigint) returns setof text
language sql stable as $$
    select steps.step ->> 'file'
    from json_array_elements(
        (
            select runs.steps
            from etl.runs
            where runs.id < rules_in_doubt.run_id
            order by runs.id desc
            limit 1
        )
    ) as steps (step)
    where
        steps.step ->> 'file' like 'clean/%'
        and (steps.step ->> 'rows')::bigint > 0
    union
    select keys.rule
    from etl.unique_keys as keys
    inner join etl.key_ranges as ranges using (source, column_name)
    where ranges.may_repeat;
$$;
