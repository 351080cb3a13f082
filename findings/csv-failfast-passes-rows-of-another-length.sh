#!/usr/bin/env bash
# One would guess: Spark's CSV reader in mode FAILFAST refuses a row that has fewer fields than the schema has
# columns, whatever is done with the rows.
# What happens: it looks only at the fields of the columns that the query asks for. Select some, and a row that
# lacks others passes as a good one; ask for all columns, or set spark.sql.csv.parser.columnPruning.enabled to
# false, and the same file is refused.
# Versions: PySpark 4.3.0, Python 3.11, Java 17
# Seen on 2026-11-28: some columns: 2 rows; all columns: refused; some, without pruning: refused
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
printf 'user,item,rating,title\n1,2,3.5,Heat\n4,5\n' >"$work/ratings.csv"
cat >"$work/read.py" <<'PY'
import sys

from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
PRUNING = "spark.sql.csv.parser.columnPruning.enabled"


def read(*columns: str) -> str:
    frame = spark.read.csv(
        sys.argv[1],
        schema="user int, item int, rating float, title string",
        header=True,
        mode="FAILFAST",
    )
    try:
        return f"{len(frame.select(*columns).collect())} rows"
    except Exception as error:
        if "MALFORMED" not in str(error):
            raise
        return "refused"


some, whole = read("user", "item"), read("*")
spark.conf.set(PRUNING, "false")
print(f"some columns: {some}; all columns: {whole}; some, without pruning: {read('user', 'item')}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work/ratings.csv" 2>/dev/null)
expected="some columns: 2 rows; all columns: refused; some, without pruning: refused"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
