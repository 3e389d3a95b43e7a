# For the other scripts, which source it: finds the project and a Python, and makes .venv.
# After it, $project is the project's folder and $python the Python of .venv.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$project/.venv/bin/python

# use_venv FILE: makes .venv again unless it has what FILE and requirements.txt name.
use_venv() {
    local base wanted
    base=$(find_python) ||
        fail "Python 3.11 or newer is needed: none was found as python3"
    wanted=$(cd "$project" && cksum requirements.txt "$1" &&
        "$base" -c 'import sys; print("python", *sys.version_info[:2])')
    is_installed "$wanted" || (
        # Two scripts at once take turns. macOS has no flock.
        ! command -v flock >/dev/null || flock 9
        is_installed "$wanted" || install "$base" "$1" "$wanted"
    ) 9>"$project/.venv.lock" || exit 2
}

# find_python: prints the command of a Python: $PYTHON, or python3, or another one where
# that is too old, or so new that the embedded Postgres has no package for it.
find_python() {
    local candidate below candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for below in 3,15 4,0; do
        for candidate in "${candidates[@]}"; do
            if "$candidate" -c "import sys; sys.exit(
                not (3, 11) <= sys.version_info < ($below))" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
    return 1
}

# is_installed LINES: whether the stamp of the last installation has all of these.
is_installed() {
    [ -x "$python" ] && [ -s "$project/.venv/installed" ] &&
        ! grep --quiet --invert-match --line-regexp --fixed-strings \
            --file "$project/.venv/installed" <<<"$1"
}

# install BASE_PYTHON FILE STAMP
install() {
    echo "Installing $2 into .venv (once) …" >&2
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "this Python lacks venv: on Debian, apt install python3-venv"
    "$1" -m venv --clear "$project/.venv" || fail "cannot make $project/.venv"
    "$python" -m pip --disable-pip-version-check --quiet install --require-hashes \
        -r "$project/$2" ||
        fail "pip could not install $2"
    echo "$3" >"$project/.venv/installed"
}

fail() {
    echo "$*" >&2
    exit 2
}
