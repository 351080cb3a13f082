#!/usr/bin/env bash
# scripts/bench.sh QUESTION [--quick] [--output DIR] [...]: answers one question about speed, with
# a JSON file and a plot in DIR (results/bench if not given); `all` answers every one in turn.
#
#   mllib       Spark MLlib's ALS, with Java's BLAS and with a native one
#   setup       what comes before the iterations: MLlib's set-up against ours, and its memory
#   cmfrec      cmfrec's ALS (C, OpenMP), exact and by conjugate gradients
#   notebook    the source notebook's loop, and MLlib fitted point after point, on MovieLens
#   accelerate  plain against accelerated training
#   accuracy    errors of ridges with a tuned λ, of the Bayesian methods and of other libraries
#   posterior   an iteration of the Bayesian methods against a ridge's, and their memory
#   growth      time and memory of 1 to 25 million ratings, in a driver heap of 4 GB
#   roofline    what a half-step spends its time on, and what Spark adds
#   recommend   Spark MLlib's recommendForAllUsers, from the same factors
#   implicit    implicit feedback: MLlib's ALS, and implicit's (C, OpenMP), with their rankings
#   exchange    broadcast against shuffle of the fixed factors; 1,000 iterations
#   limits      factors that fit neither the driver's heap nor a worker: shuffled, and broadcast
#   lists       what recommend serves: implicit's lists, the popular items, before and after a refit
#   estimator   als_spark.ALS for MLlib's: a notebook's cross-validation, objectives, what it costs
#   calibrate   the constants of the estimates (--plan), and predicted against measured
#   overview    als-spark inspect against Spark's df.summary() of three columns
#
# The peers are installed by this script alone: into .venv/, those of accuracy below .venv-peers/. The
# native BLAS is Debian's: apt-get install libopenblas0-pthread liblapack3.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

QUESTIONS='mllib setup cmfrec notebook accelerate accuracy posterior growth roofline recommend implicit exchange limits lists estimator overview calibrate'
question=${1:-}
known=
for name in $QUESTIONS all; do
    [[ $question == "$name" ]] && known=yes
done
[[ -n $known ]] ||
    give_up "usage: scripts/bench.sh QUESTION [--quick] [--output DIR], where QUESTION is one of: $QUESTIONS all${question:+ (not $question)}"
ensure_python bench
ensure_java
ensure_spark_home
export PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
third_of_memory='from als_spark.cli.launch import third_of_memory; print(f"{third_of_memory()}m")'
memory=${SPARK_DRIVER_MEMORY:-$("$VENV/bin/python" -c "$third_of_memory")}
export PYSPARK_SUBMIT_ARGS="--driver-memory $memory pyspark-shell"
[[ $question == all ]] && chosen=$QUESTIONS || chosen=$question
for name in $chosen; do
    say "$name"
    "$VENV/bin/python" -m "scripts.bench.$name" "${@:2}"
done
