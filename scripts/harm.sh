#!/usr/bin/env bash
# Harm done to the service, and what must hold after it: see docs/reliability.md, or --help.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
use_venv requirements-dev.txt
export PYTHONPATH=$project
exec "$python" -m tests.support.harm "$@"
