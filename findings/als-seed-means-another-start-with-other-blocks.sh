#!/usr/bin/env bash
# One would guess: pyspark.ml's ALS with the same seed, the same data and the same number of iterations
# gives the same model, up to rounding, whatever setNumBlocks says: blocks look like a matter of speed.
# What happens: the random start is drawn block by block, so another number of blocks is another start, and
# after a few iterations another model. Two clusters that are tuned differently cannot compare their models.
# Versions: PySpark 4.3.0, NumPy 2.4.6, Python 3.11, Java 17
# Seen on 2026-11-28: same blocks, rows shuffled: within 0.001; 3 blocks for 10: more than 0.1 apart
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'numpy==2.4.6'
cat >"$work/fit.py" <<'PY'
import numpy as np
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
rng = np.random.default_rng(1)
rows = [
    (user, item, float(rng.integers(1, 6)))
    for user in range(60)
    for item in rng.choice(40, 12, replace=False).tolist()
]


def predictions(given, blocks):
    frame = spark.createDataFrame(given, "user int, item int, rating double").repartition(4)
    als = ALS(rank=5, maxIter=3, regParam=0.05, seed=7).setNumBlocks(blocks)
    model = als.fit(frame)
    pairs = spark.createDataFrame(rows, "user int, item int, rating double")
    found = model.transform(pairs).orderBy("user", "item").collect()
    return np.array([row.prediction for row in found])


first = predictions(rows, 10)
shuffled = np.abs(predictions(rows[::-1], 10) - first).max()
fewer = np.abs(predictions(rows, 3) - first).max()
near = "within 0.001" if shuffled < 0.001 else f"{shuffled:.3g} apart"
far = "more than 0.1 apart" if fewer > 0.1 else f"{fewer:.3g} apart"
print(f"same blocks, rows shuffled: {near}; 3 blocks for 10: {far}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/fit.py" 2>/dev/null)
expected='same blocks, rows shuffled: within 0.001; 3 blocks for 10: more than 0.1 apart'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
