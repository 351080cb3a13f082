#!/usr/bin/env bash
# One would guess: pyarrow.array([1.5], pyarrow.int64()) raises, as the cast of an Arrow column of 1.5 to int64
# does, and as a list with True or with text in it does.
# What happens: it makes 1 of 1.5 without a word, of Python's floats and of NumPy's.
# Versions: PyArrow 26.0.1, NumPy 2.4.6, Python 3.11
# Seen on 2026-11-28: list [1, 2]; cast refused; true refused
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'pyarrow==26.0.1' 'numpy==2.4.6'
cat >"$work/lists.py" <<'PY'
import numpy as np
import pyarrow as pa


def outcome(make):
    try:
        return make().to_pylist()
    except (pa.ArrowInvalid, TypeError):
        return "refused"


values = [1.5, np.float64(2.5)]
print(
    f"list {outcome(lambda: pa.array(values, pa.int64()))}; "
    f"cast {outcome(lambda: pa.array(values).cast(pa.int64()))}; "
    f"true {outcome(lambda: pa.array([True], pa.int64()))}"
)
PY
seen=$("$work/venv/bin/python" "$work/lists.py")
expected="list [1, 2]; cast refused; true refused"
echo "$seen"
[[ $seen == "$expected" ]] || {
    echo "not as described: expected $expected" >&2
    exit 1
}
