#!/usr/bin/env bash
# Triggers a run on the service at $URL and says how it ended. Fails when the run failed.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
url=${URL:-http://127.0.0.1:${PORT:-5000}}
use_venv requirements.txt
if ! answer=$(curl --silent --show-error --noproxy '*' "$url/trigger_etl"); then
    echo "no answer from $url: is the service running? (./run.sh)" >&2
    exit 1
fi
exec "$python" "$project/scripts/show_answer.py" <<<"$answer"
