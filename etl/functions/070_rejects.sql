-- Queries about the rejects of a run: which to name first, and which other records may
-- follow from.

-- The errors to name of a file with too many rejects: its own, in the order of lines.
-- With causes_first, the errors that most of its rejects follow from come before them.
create or replace function etl.first_errors(
    run_id bigint, file text, causes_first boolean, most integer
) returns table (file text, line bigint, column_name text, message text)
language sql stable as $$
    with
    causes as (
        select
            rejects.cause_file as file,
            rejects.cause_line as line,
            count(*) as consequences
        from etl.rejects
        where
            rejects.run_id = first_errors.run_id
            and rejects.is_consequence
            and rejects.file = first_errors.file
            and first_errors.causes_first
        group by rejects.cause_file, rejects.cause_line
        order by consequences desc, rejects.cause_file, rejects.cause_line
        limit first_errors.most
    )

    select
        rejects.file,
        rejects.line,
        rejects.column_name,
        rejects.message
    from etl.rejects
    left join causes using (file, line)
    where
        rejects.run_id = first_errors.run_id
        and not rejects.is_consequence
        and (causes.consequences is not null or rejects.file = first_errors.file)
    order by
        causes.consequences desc nulls last,
        rejects.file,
        rejects.line,
        rejects.id
    limit first_errors.most;
$$;

-- The records of a file that the present run has rejected, in the order of their lines,
-- with the valid values of their required columns and the first error of each: for
-- rules about the records that refer to them. Of a duplicate, the values that the first
-- record has too are null; one that is not valid is not among them at all. The cause is
-- where that error begins: the record itself, or the one that it follows from. (In
-- plpgsql, so that the planner sees many rows and does not choose a nested loop.)
create or replace function etl.rejected_records(
    file text
) returns table (
    line       bigint,
    keys       jsonb,
    message    text,
    cause_file text,
    cause_line bigint
)
language plpgsql stable rows 10000 as $$
begin
    return query
    select distinct on (rejects.line)
        rejects.line,
        rejects.keys,
        rejects.message,
        coalesce(rejects.cause_file, rejects.file),
        coalesce(rejects.cause_line, rejects.line)
    from etl.rejects
    where
        rejects.run_id = (
            select max(runs.id) from etl.runs where runs.state = 'running'
        )
        and rejects.is_consequence in (false, true) -- for the index
        and rejects.file = rejected_records.file
    order by rejects.line, rejects.is_consequence, rejects.id;
end;
$$;
