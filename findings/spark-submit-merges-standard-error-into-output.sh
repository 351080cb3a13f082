#!/usr/bin/env bash
# One would guess: what a Python program writes to standard error is on the standard error of the spark-submit
# that runs it, so that `spark-submit program.py 2>errors.log` keeps the program's errors.
# What happens: in client mode Spark starts the program with both streams merged, and passes all of it on to its
# own standard output; on standard error is only what Spark itself says. The same program under `python program.py`
# keeps the two apart.
# Versions: PySpark 4.3.0, Python 3.11, Java 17
# Seen on 2026-11-28: output: result, problem; error: neither
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
cat >"$work/program.py" <<'PY'
import sys

print("result", flush=True)
print("problem", file=sys.stderr)
PY
PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/spark-submit" --master 'local[1]' \
    --conf spark.ui.enabled=false "$work/program.py" >"$work/out" 2>"$work/err"
words() {
    local found
    found=$(grep -oxE 'result|problem' "$1" | paste -sd, - | sed 's/,/, /g')
    echo "${found:-neither}"
}
seen="output: $(words "$work/out"); error: $(words "$work/err")"
expected="output: result, problem; error: neither"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
