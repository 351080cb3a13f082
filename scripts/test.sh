#!/usr/bin/env bash
# scripts/test.sh [--spark LINE] [pytest options]: every check of the project, after the same set-up as the
# other scripts: lint, format, types, tests. Stops at the first that fails. The tests run in two
# processes, each file in one of them, those of whole jobs first; `-n 0` keeps them in one. Where a
# Spark of theirs dies, of too little memory for instance, those that failed run once more.
# With `--spark 3.5` instead the tests on Spark, tests/spark, with the newest PySpark of that line.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

ensure_python test
tests=() checks=1
if [[ ${1:-} == --spark ]]; then
    ensure_pyspark "${2:-}"
    say "PySpark $("$VENV/bin/python" -c 'from importlib.metadata import version; print(version("pyspark"))')"
    shift 2
    tests=(tests/spark) checks=''
fi
ensure_java
# Spark's Python workers run `python3` unless they are told what the driver is.
export PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
# The tests import `tests` and `jobs` from the root, in Spark's Python workers too: those get
# this directory from the `-m` that Spark starts them with.
cd -- "$ROOT"
EXIT_LOST_JVM=75 # as tests/conftest.py has it
step() {
    say "$1"
    "$VENV/bin/python" -m "${@:2}"
}
if [[ -n $checks ]]; then
    step "lint" ruff check .
    step "format" ruff format --check .
    step "types" mypy
fi
say "tests"
status=0
set -- ${tests[@]+"${tests[@]}"} "$@"
"$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" || status=$?
if ((status == EXIT_LOST_JVM)); then
    say "Spark's JVM died under the tests: the ones that failed once more, in one process"
    exec "$VENV/bin/python" -m pytest "$@" -n 0 --last-failed
fi
exit "$status"
