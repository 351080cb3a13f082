#!/usr/bin/env bash
# scripts/setup.sh [test]: sets up .venv/ and Java and nothing else; with `test`, the tools of
# scripts/test.sh too. The other scripts do the same by themselves.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

case ${1:-run} in
run | test) ;;
*) give_up "usage: scripts/setup.sh [test] (not $1)" ;;
esac
ensure_python "${1:-run}"
ensure_java
