#!/usr/bin/env bash
# scripts/package.sh [--output DIR]: builds als_spark.zip (--py-files) and
# als_spark_env.tar.gz (--archives) into dist/ or DIR, and prints the spark-submit lines that
# use them. What is in them, and why, stands in scripts/lib/package.py.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

ensure_python run
exec "$VENV/bin/python" "$ROOT/scripts/lib/package.py" "$@"
