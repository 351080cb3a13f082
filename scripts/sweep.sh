#!/usr/bin/env bash
# scripts/sweep.sh [options of jobs/sweep.py]: from a fresh clone to trained models. What it
# sets up and reads from the environment stands in scripts/run.sh.
set -euo pipefail
exec "$(dirname -- "${BASH_SOURCE[0]}")/run.sh" sweep "$@"
