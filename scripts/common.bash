# For the other scripts, which source it: finds the project and a Python, and makes .venv.
# After it, $project is the project's folder and $python the Python of .venv.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$project/.venv/bin/python

# use_venv REQUIREMENTS_FILE
use_venv() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" "$project/scripts/make_venv.py" "$1" || exit $?
            return
        fi
    done
    echo "Python 3.11 or newer is needed: none was found as python3" >&2
    exit 2
}
