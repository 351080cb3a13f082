#!/usr/bin/env bash
# One would guess: the files of DataFrame.inputFiles() are those whose rows the DataFrame has.
# What happens: in a folder that has a file of its own beside a folder such as day=1, Spark takes day for a
# partition column, reads only the files that have a value of it, and loses the rows of the other one without a
# word; inputFiles() still names it.
# Versions: PySpark 4.3.0, Python 3.11, Java 17
# Seen on 2026-11-28: files b.csv a.csv; rows [('1', 1)]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
cat >"$work/read.py" <<'PY'
import os
import sys

from pyspark.sql import SparkSession

folder = sys.argv[1]
os.makedirs(f"{folder}/day=1")
for name, user in (("day=1/a.csv", 1), ("b.csv", 3)):
    with open(f"{folder}/{name}", "w") as file:
        file.write(f"{user}\n")
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.csv(folder)
names = " ".join(os.path.basename(file) for file in sorted(frame.inputFiles()))
print(f"files {names}; rows {[tuple(row) for row in frame.collect()]}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work/data" 2>/dev/null)
expected="files b.csv a.csv; rows [('1', 1)]"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
