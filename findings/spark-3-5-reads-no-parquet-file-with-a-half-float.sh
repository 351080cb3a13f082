#!/usr/bin/env bash
# One would guess: a column of a type that Spark does not know is no matter to a query that does not ask for it, or
# is refused by a message with its name.
# What happens: Spark 3.5 cannot even infer the schema of a Parquet file that has a column of 16-bit floats
# (float16, a logical type of Parquet since 2023): it raises a NullPointerException that names neither the column
# nor the type, also where the query asks for other columns only.
# Versions: PySpark 3.5.9, PyArrow 21.0.0, Python 3.11, Java 17
# Seen on 2026-11-28: whole file: NullPointerException; without the column: 2 rows
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==3.5.9' 'pyarrow==21.0.0' 'numpy==1.26.4'
cat >"$work/read.py" <<'PY'
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

columns = {"user": [1, 2], "share": np.array([0.5, 0.25], np.float16)}
table = pa.table(columns)
pq.write_table(table, f"{sys.argv[1]}/whole.parquet")
pq.write_table(table.drop_columns(["share"]), f"{sys.argv[1]}/less.parquet")
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("OFF")


def read(name: str) -> str:
    try:
        return f"{len(spark.read.parquet(f'{sys.argv[1]}/{name}').select('user').collect())} rows"
    except Exception as error:
        assert "share" not in str(error)
        return next((word for word in ("NullPointerException",) if word in str(error)), "other")


print(f"whole file: {read('whole.parquet')}; without the column: {read('less.parquet')}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work" 2>/dev/null)
expected="whole file: NullPointerException; without the column: 2 rows"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
