#!/usr/bin/env bash
# Says which of the packages in the requirements have known vulnerabilities, and fails then.
# Exit code 2: the database of them was not reached, as behind a mirror of PyPI.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements-dev.txt

report=$("$python" -m pip_audit --strict --require-hashes --disable-pip \
    --progress-spinner off --requirement "$project/requirements-dev.txt" 2>&1) && failed= || failed=yes
case $failed$report in
    yes*"not found on PyPI"* | yes*ConnectionError* | yes*"connect to PyPI"* | yes*Timeout*)
        fail "not audited for known vulnerabilities: ${report##*$'\n'}" ;;
esac
echo "$report"
[ -z "$failed" ]
