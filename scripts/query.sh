#!/usr/bin/env bash
# Runs psql with query.sql, or with the arguments given, on the service's database.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements.txt
if [ $# -eq 0 ]; then
    set -- --no-psqlrc --set ON_ERROR_STOP=1 --file "$project/scripts/query.sql"
fi
# The caller's folder stays the present one, and no module is taken from it (-P).
export PYTHONPATH=$project
exec "$python" -P -m etl.psql "$@"
