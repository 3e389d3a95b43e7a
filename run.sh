#!/usr/bin/env bash
# Serves on http://127.0.0.1:5000, or does one run with --once: run.sh [--once] [FOLDER].
# FOLDER is a pipeline, the project by default. Needs Python 3.11 only.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.bash"
use_venv requirements.txt
exec "$python" "$project/server.py" "$@"
