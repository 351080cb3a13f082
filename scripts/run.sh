#!/usr/bin/env bash
# scripts/run.sh JOB [options]: runs jobs/JOB.py, after setting up .venv/
# and Java where they are missing.
#
# From the environment:
#   ALS_SPARK_SUBMIT_ARGS  options of spark-submit, quoted as in a shell, e.g.
#                          '--master spark://host:7077 --properties-file conf/spark-standalone.conf'
#   ALS_SPARK_LOG_LEVEL    what Spark logs to the terminal (error); warn, info, ...
#   ALS_SPARK_PYTHON       the interpreter that .venv/ is created with
#   SPARK_DRIVER_MEMORY    heap of the driver, such as 8g; a third of the machine if not given
#   SPARK_HOME             a Spark distribution to use instead of the one inside pyspark
#   SPARK_CONF_DIR         your Spark configuration; its log4j2.properties then rules the log
#   MASTER, JAVA_HOME      as Spark reads them
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

job=${1:-}
# A module jobs/inspect.py would hide that of the standard library.
[[ $job == inspect ]] && job=inspect_ratings
if [[ -z $job || ! -f $ROOT/jobs/$job.py ]]; then
    jobs=$(cd -- "$ROOT/jobs" && for file in [!_]*.py; do file=${file%.py} && printf ' %s' "${file%_ratings}"; done)
    give_up "usage: scripts/run.sh JOB [options], where JOB is one of:$jobs${job:+ (not $job)}"
fi
ensure_python run
ensure_java
ensure_spark_home
run_job "$ROOT/jobs/$job.py" "${@:2}"
