-- A narrower form of plain lists: nothing but numbers between semicolons, and no blank
-- after the last of these. Then sql/build need not look for blanks in every list.
update etl.plain_forms
set plain = '[0-9]{1,18}(?:;[0-9]{1,18})*(?:;(?![ \t]))?'
where
    source = 'user_experiments'
    and column_name = 'experiment_compound_ids';
