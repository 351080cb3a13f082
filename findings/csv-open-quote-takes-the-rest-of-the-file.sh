#!/usr/bin/env bash
# One would guess: a field of a csv file whose quote is never closed makes a bad record, which Spark's
# reader, asked to keep bad records in a column of their own (mode PERMISSIVE with
# columnNameOfCorruptRecord), puts there.
# What happens: with multiLine the reader takes everything from that quote to the end of the file for
# one field. The rows behind it are gone; the one that took them is no bad record, its corrupt-record
# column is null, and mode FAILFAST raises nothing either.
# Versions: PySpark 4.3.0, Python 3.11, Java 17
# Seen on 2026-11-28: rows 2 of 5, bad records 0, with FAILFAST 2
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
{
    echo 'user,item,rating,review'
    echo '1,10,4,good'
    echo '2,10,3,"starts well'
    for user in 3 4 5; do echo "$user,10,5,fine"; done
} >"$work/ratings.csv"
cat >"$work/read.py" <<'PY'
import sys

from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
columns = "user int, item int, rating int, review string"
permissive = spark.read.csv(
    sys.argv[1],
    schema=f"{columns}, bad string",
    header=True,
    multiLine=True,
    mode="PERMISSIVE",
    columnNameOfCorruptRecord="bad",
).collect()
strict = spark.read.csv(
    sys.argv[1], schema=columns, header=True, multiLine=True, mode="FAILFAST"
).collect()
n_bad = sum(row.bad is not None for row in permissive)
print(f"rows {len(permissive)} of 5, bad records {n_bad}, with FAILFAST {len(strict)}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work/ratings.csv" 2>/dev/null)
expected='rows 2 of 5, bad records 0, with FAILFAST 2'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
