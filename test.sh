#!/usr/bin/env bash
# Lint, types and every test. Arguments go to pytest.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.bash"
use_venv requirements-dev.txt
cd "$project"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m sqlfluff lint sql etl scripts
exec "$python" -m pytest "$@"
