#!/usr/bin/env bash
# scripts/setup.sh [docs|test|dev]: sets up .venv/ and Java and nothing else; with `docs` the tools of
# scripts/docs.sh too, with `test` those of scripts/test.sh, with `dev` also pre-commit. The other
# scripts set up what they need by themselves.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

case ${1:-run} in
run | docs | test | dev) ;;
*) give_up "usage: scripts/setup.sh [docs|test|dev] (not $1)" ;;
esac
ensure_python "${1:-run}"
ensure_java
