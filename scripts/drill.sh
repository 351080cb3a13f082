#!/usr/bin/env bash
# scripts/drill.sh DRILL [options]: tries out what the nightly jobs promise; DRILL --help lists
# the options. Exit code 1 if a promise was broken, 2 for unusable data or options, 130 if stopped.
#
#   fortnight  a start and fourteen nights, some of them bad, with the outcome each must have
#   kills      retrainings killed at random moments, while a reader reads all the time
#   driver     sweeps with a checkpoint, killed at random moments and continued
#   executors  executors and Python workers killed while sweeps and the estimator train
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

DRILLS='fortnight kills driver executors'
drill=${1:-}
known=
for name in $DRILLS; do
    [[ $drill == "$name" ]] && known=yes
done
[[ -n $known ]] ||
    give_up "usage: scripts/drill.sh DRILL [options], where DRILL is one of: $DRILLS${drill:+ (not $drill)}"
ensure_python run
ensure_java
ensure_spark_home
export PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
exec "$VENV/bin/python" -m "tests.drills.$drill" "${@:2}"
