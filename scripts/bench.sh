#!/usr/bin/env bash
# The benchmarks: a warm trigger on the shipped data, and what bad records cost. Its
# argument is the number of users for the latter, ten experiments each: 100000 without.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements.txt
"$python" "$project/bench/warm.py"
exec "$python" "$project/bench/rejects.py" "${1:-100000}"
