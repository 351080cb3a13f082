#!/usr/bin/env bash
# One would guess: a Parquet file with one column of a type that Spark does not have (time of day,
# half-precision floats, timestamps in nanoseconds) can still be read as long as that column is not
# selected, since Parquet is read by columns.
# What happens: spark.read.parquet raises before anything is selected, because it first translates the
# schema of the whole file. With a schema of the wanted columns given by hand the same file is read.
# Versions: PySpark 4.3.0, PyArrow 26.0.1, Python 3.11, Java 17
# Seen on 2026-11-28: time of day: refused, then 2 rows; float16: refused, then 2 rows; nanoseconds: refused, then 2 rows
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'pyarrow==26.0.1' 'numpy==2.4.6'
cat >"$work/read.py" <<'PY'
import datetime
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

odd = {
    "time of day": pa.array([datetime.time(1), datetime.time(2)], pa.time64("us")),
    "float16": pa.array(np.array([1, 2], np.float16)),
    "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
}
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
found = []
for name, column in odd.items():
    path = f"{sys.argv[1]}/{name.replace(' ', '-')}.parquet"
    pq.write_table(pa.table({"user": [1, 2], "odd": column}), path)
    try:
        spark.read.parquet(path).select("user").count()
        first = "read"
    except PySparkException:
        first = "refused"
    rows = spark.read.schema("user long").parquet(path).count()
    found.append(f"{name}: {first}, then {rows} rows")
print("; ".join(found))
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work" 2>/dev/null)
expected='time of day: refused, then 2 rows; float16: refused, then 2 rows; nanoseconds: refused, then 2 rows'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
