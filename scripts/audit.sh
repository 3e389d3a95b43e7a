#!/usr/bin/env bash
# Says which of the packages in the requirements have known vulnerabilities, and fails then.
# Exit code 2: the database of them was not reached, as behind a mirror of PyPI.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements-dev.txt

if report=$("$python" -m pip_audit --strict --require-hashes --disable-pip \
    --progress-spinner off --requirement "$project/requirements-dev.txt" 2>&1); then
    echo "$report"
    exit
fi
case $report in
    *"known vulnerabilit"*) ;;
    *"not found on PyPI"* | *"connect to PyPI"* | *ConnectionError* | *Timeout*)
        reason=${report##*$'\n'}
        fail "not audited for known vulnerabilities: ${reason#ERROR:pip_audit._cli:}" ;;
esac
echo "$report" >&2
exit 1
