#!/usr/bin/env bash
# One would guess: a DataFrame that is cached, and has been counted since, keeps its rows whatever becomes of its
# files, as an RDD that is cached does.
# What happens: when the same session writes to the folder, Spark drops the cached rows and reads the new files the
# next time, without a warning. So does an append. A cached RDD of the same rows keeps them, and so does a local
# checkpoint; a file that another program puts into the folder changes nothing.
# Versions: PySpark 4.3.0, pyarrow 23.0.0, Python 3.11, Java 17
# Seen on 2026-11-29: cached: 10; another program: 10; overwritten: 3; appended: 4; RDD: 10; checkpoint: 10
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'pyarrow==23.0.0'
cat >"$work/write.py" <<'PY'
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
folder = sys.argv[1]
spark.range(10).write.parquet(folder)
frame = spark.read.parquet(folder)
cached = spark.read.parquet(folder).cache()
rdd = frame.rdd.map(tuple).cache()
checkpoint = frame.localCheckpoint()
seen = {"cached": cached.count()}
rdd.count()
pq.write_table(pa.table({"id": [7]}), f"{folder}/more.parquet")
seen["another program"] = cached.count()
spark.range(3).write.mode("overwrite").parquet(folder)
seen["overwritten"] = cached.count()
spark.range(1).write.mode("append").parquet(folder)
seen["appended"] = cached.count()
seen["RDD"], seen["checkpoint"] = rdd.count(), checkpoint.count()
print("; ".join(f"{name}: {count}" for name, count in seen.items()))
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/write.py" "$work/numbers" 2>/dev/null)
expected="cached: 10; another program: 10; overwritten: 3; appended: 4; RDD: 10; checkpoint: 10"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
