#!/usr/bin/env bash
# Writes the requirements with the hashes of all their files again, from the groups in
# pyproject.toml. Versions stay, unless arguments say which are to be newer: --upgrade,
# or --upgrade-package NAME.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements-dev.txt
cd "$project"
export UV_CUSTOM_COMPILE_COMMAND=scripts/lock.sh

# lock GROUP FILE [OPTION…]: for every system, and every Python that the service runs on.
lock() {
    "$python" -m uv pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --annotation-style line --group "$1" --output-file "$2" "${@:3}"
}

lock service requirements.txt "$@"
lock dev requirements-dev.txt --constraint requirements.txt "$@"
lock bench bench/requirements.txt --constraint requirements-dev.txt "$@"
