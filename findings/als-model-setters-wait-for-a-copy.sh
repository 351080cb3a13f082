#!/usr/bin/env bash
# One would guess: model.setUserCol("reader") of pyspark.ml's ALSModel renames the column of the next
# recommendForAllUsers, as the model's own getter answers "reader" at once.
# What happens: the recommendations still have the old name, also on later calls. The setter changes
# the Python object alone; its twin in the JVM, which recommends, gets the new value when transform,
# copy or save hands all parameters over. After an unrelated transform the name is the new one.
# Versions: PySpark 4.3.0, NumPy 2.4.6, Python 3.11, Java 17
# Seen on 2026-11-28: getter reader, recommendations user, after transform reader
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'numpy==2.4.6'
cat >"$work/recommend.py" <<'PY'
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = [(user, item, float(1 + (user + item) % 5)) for user in range(4) for item in range(4)]
frame = spark.createDataFrame(rows, "user int, item int, rating float")
model = ALS(rank=2, maxIter=1, seed=0).fit(frame)
model.setUserCol("reader")
getter = model.getUserCol()
before = model.recommendForAllUsers(1).columns[0]
model.transform(frame.withColumnRenamed("user", "reader"))
after = model.recommendForAllUsers(1).columns[0]
print(f"getter {getter}, recommendations {before}, after transform {after}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/recommend.py" 2>/dev/null)
expected='getter reader, recommendations user, after transform reader'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
