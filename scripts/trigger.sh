#!/usr/bin/env bash
# Triggers a run on the service at $URL and says how it ended. Fails when the run failed.
# Sends the token that $API_TOKEN is, or that the file $API_TOKEN_FILE holds.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
url=${URL:-http://127.0.0.1:${PORT:-5000}}
token=${API_TOKEN:-}
if [ -z "$token" ] && [ -n "${API_TOKEN_FILE:-}" ]; then
    token=$(tr -d '[:space:]' <"$API_TOKEN_FILE")
fi
use_venv requirements.txt
# Not as an argument, which other users of the machine may see.
if ! answer=$(
    curl --silent --show-error --noproxy '*' "$url/trigger_etl" \
        ${token:+--header @-} <<<"Authorization: Bearer $token"
); then
    echo "no answer from $url: is the service running? (./run.sh)" >&2
    exit 1
fi
exec "$python" "$project/scripts/show_answer.py" <<<"$answer"
