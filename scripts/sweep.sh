#!/usr/bin/env bash
# scripts/sweep.sh [options of jobs/sweep.py]: from a fresh clone to trained models. What it
# sets up and reads from the environment stands in scripts/run.sh.
set -euo pipefail
# shellcheck source=scripts/lib/streams.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/streams.sh"
exec "$(dirname -- "${BASH_SOURCE[0]}")/run.sh" sweep "$@"
