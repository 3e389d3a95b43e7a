#!/usr/bin/env bash
# The benchmarks, beside DuckDB, Polars, pandas and psql: see bench/README.md, or --help.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv bench/requirements.txt
export PYTHONPATH=$project
exec "$python" "$project/bench/main.py" "$@"
