#!/usr/bin/env bash
# One would guess: a DataFrame that Spark caches as Arrow (spark.sql.cache.serializer =
#   ArrowCachedBatchSerializer, which is there so that Arrow UDFs need no rows in between) can be
#   given to a Python UDF, whatever its size.
# What happens: an Arrow UDF works as long as a partition is one cached batch (10,000 rows unless
#   spark.sql.inMemoryColumnarStorage.batchSize says otherwise). From the second batch on the query
#   fails with an IndexOutOfBoundsException of Arrow: the batch that is still needed, beside what the
#   UDF returned for it, has been freed. It makes no difference whether
#   spark.sql.execution.arrow.pythonUDF.columnarInput.enabled is on, nor whether the column has nulls.
#   Queries without a UDF, and mapInArrow, read all rows; with
#   spark.sql.inMemoryColumnarStorage.enableVectorizedReader off so does the UDF, by way of rows.
# Versions: pyspark 4.3.0, pyarrow 26.0.1, pandas 2.3.3, Python 3.11, Java 17
# Seen on 2026-11-29:
#   columnar input, 10000 rows: 49995000
#   columnar input, 30000 rows: IndexOutOfBoundsException
#   row input, 30000 rows: IndexOutOfBoundsException
#   no UDF, 30000 rows: 449985000
#   mapInArrow, 30000 rows: 30000
#   no vectorised reader, 30000 rows: 449985000
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0' 'pyarrow==26.0.1' 'pandas==2.3.3' 'numpy==2.4.6'
export PYSPARK_PYTHON=$work/venv/bin/python
seen=$("$work/venv/bin/python" - 2>"$work/log" <<'PY'
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SERIALIZER = "org.apache.spark.sql.execution.columnar.ArrowCachedBatchSerializer"
COLUMNAR = "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled"
VECTORISED = "spark.sql.inMemoryColumnarStorage.enableVectorizedReader"
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.cache.serializer", SERIALIZER)
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")


def same(values: pa.Array) -> pa.Array:
    return values


def outcome(query):
    try:
        return query()
    except Exception as error:
        known = "IndexOutOfBoundsException" in str(error)
        return "IndexOutOfBoundsException" if known else type(error).__name__


same_udf = F.arrow_udf(same, "bigint")
frames = {}
for n in (10_000, 30_000):
    frames[n] = spark.range(0, n, 1, 1).cache()
    frames[n].count()


def total(n):
    return frames[n].select(same_udf("id").alias("id")).agg(F.sum("id")).first()[0]


spark.conf.set(COLUMNAR, "true")
print("columnar input, 10000 rows:", outcome(lambda: total(10_000)))
print("columnar input, 30000 rows:", outcome(lambda: total(30_000)))
spark.conf.set(COLUMNAR, "false")
print("row input, 30000 rows:", outcome(lambda: total(30_000)))
whole = frames[30_000]
print("no UDF, 30000 rows:", outcome(lambda: whole.agg(F.sum("id")).first()[0]))
passed = whole.mapInArrow(lambda batches: batches, "id bigint")
print("mapInArrow, 30000 rows:", outcome(passed.count))
spark.conf.set(VECTORISED, "false")
print("no vectorised reader, 30000 rows:", outcome(lambda: total(30_000)))
spark.stop()
PY
) || { cat "$work/log" >&2; exit 1; }
expected='columnar input, 10000 rows: 49995000
columnar input, 30000 rows: IndexOutOfBoundsException
row input, 30000 rows: IndexOutOfBoundsException
no UDF, 30000 rows: 449985000
mapInArrow, 30000 rows: 30000
no vectorised reader, 30000 rows: 449985000'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "not as described: expected"; echo "$expected"; exit 1; } >&2
