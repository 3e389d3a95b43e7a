#!/usr/bin/env bash
# Shows what is in features, or runs psql with the arguments given, on the database of a
# pipeline: query.sh [FOLDER] [psql's arguments]. FOLDER is the project by default.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements.txt
# The caller's folder stays the present one, and no module is taken from it (-P).
export PYTHONPATH=$project
exec "$python" -P -m etl.psql --show "$@"
