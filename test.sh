#!/usr/bin/env bash
# Every test, then linters and types. With arguments: pytest alone, with them. With
# --fix: fixes what the linters can fix. With --named: the tests of a database again, on
# other servers. Where TEST_DATABASE_URL names a server, tests use it in any case.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.bash"
use_venv requirements-dev.txt
cd "$project"
trap 'exit 130' INT
failed=

# A process a core; the tests of a file stay together. In the usual order, as those with
# few tests, which would come last, take the longest.
all_tests=(pytest --numprocesses auto --dist loadfile --no-loadscope-reorder)

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
if [ "$*" = --named ]; then
    run tests.support.tcpserver "${all_tests[@]}" -m database
    if [ -n "${TEST_CITUS_URL:-}" ]; then
        TEST_DATABASE_URL=$TEST_CITUS_URL run "${all_tests[@]}" -m database
    else
        echo "TEST_CITUS_URL is not set: no test ran on Citus" >&2
    fi
    [ -z "$failed" ] || { echo "failed: $failed" >&2 && exit 1; }
    exit 0
fi
if [ $# -gt 0 ]; then
    exec "$python" -m pytest "$@"
fi

run "${all_tests[@]}"
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
