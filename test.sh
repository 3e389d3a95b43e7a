#!/usr/bin/env bash
# Every test, then linters and types. With arguments: pytest alone, with them. With
# --fix: fixes what the linters can fix.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.bash"
use_venv requirements-dev.txt
cd "$project"
trap 'exit 130' INT
failed=

# Runs a module of Python, and remembers where it failed.
run() {
    "$python" -m "$@" || failed="$failed${failed:+, }$*"
}

if [ "$*" = --fix ]; then
    run ruff check --fix .
    run ruff format .
    run sqlfluff fix sql examples etl scripts
    [ -z "$failed" ] || exit 1
    exit 0
fi
if [ $# -gt 0 ]; then
    exec "$python" -m pytest "$@"
fi

# A process a core, each with a Postgres of its own; the tests of a file stay together.
run pytest --numprocesses auto --dist loadfile
tests=$failed failed=
run ruff check .
run ruff format --check .
run mypy
run sqlfluff lint sql examples etl scripts
if [ -n "$failed" ]; then
    echo "${tests:+tests failed; }$failed failed: to fix what can be fixed, ./test.sh --fix" >&2
    exit 1
fi
if [ -n "$tests" ]; then
    echo "tests failed" >&2
    exit 1
fi
