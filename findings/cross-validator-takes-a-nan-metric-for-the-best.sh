#!/usr/bin/env bash
# One would guess: CrossValidator passes over a model whose metric is NaN, or ranks it last.
# What happens: in Python the model with NaN wins, of larger-is-better metrics as of smaller-is-better ones, and is
# fitted on all data as the best one, without a word. A grid meets NaN as soon as one of its models has one prediction
# that is NaN: here ALS with one user who has no rating outside the fold.
# Versions: PySpark 4.3.0, NumPy 2.4.1, Python 3.11, Java 17
# Seen on 2026-11-28: rmse: [number, NaN], best is nan; r2: [number, NaN], best is nan
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'numpy==2.4.1'
cat >"$work/validate.py" <<'PY'
import math

from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.recommendation import ALS
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
spark = spark.config("spark.sql.shuffle.partitions", "1").getOrCreate()
spark.sparkContext.setLogLevel("OFF")
rows = [(u, i, float((u * 7 + i * 3) % 5 + 1)) for u in range(12) for i in range(12)]
ratings = spark.createDataFrame([*rows, (99, 0, 3.0)], "user int, item int, rating double")
als = ALS(rank=2, maxIter=1, numUserBlocks=1, numItemBlocks=1, seed=1)
grid = ParamGridBuilder().addGrid(als.coldStartStrategy, ["drop", "nan"]).build()
for metric in ("rmse", "r2"):
    evaluator = RegressionEvaluator(metricName=metric, labelCol="rating")
    found = CrossValidator(
        estimator=als, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1
    ).fit(ratings)
    metrics = ", ".join("NaN" if math.isnan(m) else "number" for m in found.avgMetrics)
    print(f"{metric}: [{metrics}], best is {found.bestModel.getColdStartStrategy()}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/validate.py" 2>/dev/null | paste -sd ';' | sed 's/;/; /g')
expected="rmse: [number, NaN], best is nan; r2: [number, NaN], best is nan"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
