#!/usr/bin/env bash
# One would guess: a path such as hdfs:///folder, which means "on the default file system" wherever Spark and Hadoop
# take paths, is taken by both of Hadoop's Java interfaces alike.
# What happens: FileSystem takes it, with the host of fs.defaultFS. FileContext, the newer one, and the only one whose
# rename puts a file over another in one step, refuses the same path with the same configuration: an
# IllegalArgumentException, "Uri without authority". Code that asks FileContext first and falls back on FileSystem
# loses that step exactly for the paths that manuals like best, without a sign.
# Versions: PySpark 4.3.0 with its Hadoop 3.5.0, Python 3.11, Java 17
# Seen on 2026-11-29: FileSystem: hdfs://127.0.0.1:9000; FileContext: IllegalArgumentException: Uri without authority
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyspark==4.3.0'
cat >"$work/ask.py" <<'PY'
from pyspark.errors import IllegalArgumentException
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("OFF")
jvm = spark.sparkContext._jvm
conf = jvm.org.apache.hadoop.conf.Configuration()
# Nobody is there, and nobody is asked: both only make a client.
conf.set("fs.defaultFS", "hdfs://127.0.0.1:9000")
path = jvm.org.apache.hadoop.fs.Path("hdfs:///folder").toUri()
system = jvm.org.apache.hadoop.fs.FileSystem.newInstance(path, conf).getUri().toString()
try:
    context = jvm.org.apache.hadoop.fs.FileContext.getFileContext(path, conf).toString()
except IllegalArgumentException as error:
    context = f"{type(error).__name__}: {str(error).split(':')[0]}"
print(f"FileSystem: {system}; FileContext: {context}")
PY
seen=$(PYSPARK_PYTHON="$work/venv/bin/python" "$work/venv/bin/python" "$work/ask.py" 2>/dev/null)
expected="FileSystem: hdfs://127.0.0.1:9000; FileContext: IllegalArgumentException: Uri without authority"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
