#!/usr/bin/env bash
# scripts/test.sh [pytest options]: every check of the project, after the same set-up as the
# other scripts: lint, format, types, tests. Stops at the first that fails. The tests run in two
# processes, each file in one of them, those of whole jobs first; `-n 0` keeps them in one.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

ensure_python test
ensure_java
# Spark's Python workers run `python3` unless they are told what the driver is.
export PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
# The tests import `tests` and `jobs` from the root, in Spark's Python workers too: those get
# this directory from the `-m` that Spark starts them with.
cd -- "$ROOT"
step() {
    say "$1"
    "$VENV/bin/python" -m "${@:2}"
}
step "lint" ruff check .
step "format" ruff format --check .
step "types" mypy
say "tests"
exec "$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
