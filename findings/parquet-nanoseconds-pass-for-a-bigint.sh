#!/usr/bin/env bash
# One would guess: Spark either reads a Parquet column of timestamps in nanoseconds as timestamps, or refuses
# it, as it does when it infers the schema: then it names the type and the setting (nanosAsLong) that would help.
# What happens: with a schema given by hand that calls the column bigint, it is read without that setting and
# without a word, in nanoseconds; a file beside it whose bigints are seconds is read by the same schema, so
# that two files of one folder differ by a factor of a thousand million.
# Versions: PySpark 4.3.0, PyArrow 26.0.1, Python 3.11, Java 17
# Seen on 2026-11-28: inferred: refused; given: [1700000000, 1700000000000000000]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'pyarrow==26.0.1'
cat >"$work/read.py" <<'PY'
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

folder, seconds = sys.argv[1], 1_700_000_000
kinds = {"seconds": pa.array([seconds]), "nanos": pa.array([seconds * 10**9], pa.timestamp("ns"))}
for name, column in kinds.items():
    pq.write_table(pa.table({"at": column}), f"{folder}/{name}.parquet")
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
try:
    spark.read.parquet(f"{folder}/nanos.parquet")
    inferred = "read"
except PySparkException:
    inferred = "refused"
rows = spark.read.schema("at bigint").parquet(folder).collect()
print(f"inferred: {inferred}; given: {sorted(row['at'] for row in rows)}")
PY
mkdir "$work/data"
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work/data" 2>/dev/null)
expected='inferred: refused; given: [1700000000, 1700000000000000000]'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
