#!/usr/bin/env python3
"""Starts scripts/lib/fetch_movielens.py in .venv/, which is set up first where it is missing.

scripts/fetch_movielens.py ml-latest-small
"""

import os
import sys

LIB = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib")
START = """
source "$1/environment.sh"
ensure_python run
exec "$VENV/bin/python" "$1/fetch_movielens.py" "${@:2}"
"""

os.execvp("bash", ["bash", "-euo", "pipefail", "-c", START, "fetch_movielens", LIB, *sys.argv[1:]])
