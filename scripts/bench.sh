#!/usr/bin/env bash
# The benchmarks: how long a warm trigger takes on the shipped data.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements.txt
exec "$python" "$project/bench/warm.py"
