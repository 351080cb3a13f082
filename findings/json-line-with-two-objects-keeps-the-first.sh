#!/usr/bin/env bash
# One would guess: a line of a JSON file that holds two objects, one after the other (a writer that lost a line
# break), is either read as two rows or is malformed: null with the line in _corrupt_record, an error in the
# mode FAILFAST.
# What happens: spark.read.json takes the first object and passes over the rest of the line, in every mode;
# _corrupt_record is null.
# Versions: PySpark 4.3.0, Python 3.11, Java 17
# Seen on 2026-11-28: PERMISSIVE: users [1, 3], corrupt 0; FAILFAST: users [1, 3]
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
cat >"$work/read.py" <<'PY'
import sys

from pyspark.sql import SparkSession

with open(sys.argv[1], "w") as file:
    file.write('{"user": 1}{"user": 2}\n{"user": 3}\n')
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
reader = spark.read.schema("user long, _corrupt_record string")
rows = reader.json(sys.argv[1]).collect()
corrupt = sum(row["_corrupt_record"] is not None for row in rows)
strict = spark.read.schema("user long").option("mode", "FAILFAST").json(sys.argv[1]).collect()
users, strictly = ([row.user for row in found] for found in (rows, strict))
print(f"PERMISSIVE: users {users}, corrupt {corrupt}; FAILFAST: users {strictly}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/read.py" "$work/lines.json" 2>/dev/null)
expected='PERMISSIVE: users [1, 3], corrupt 0; FAILFAST: users [1, 3]'
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
