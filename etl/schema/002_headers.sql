-- What a run reports of a CSV file has its header as well.
comment on column etl.runs.files is
'Per CSV file: file, bytes, sha256, load (kept, appended or loaded), records, '
'records_loaded (read in this run), rejected, rejected_by_reason, header (as in the '
'file, with its line end)';
