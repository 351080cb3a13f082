#!/usr/bin/env bash
# scripts/docs.sh [sphinx-build options]: builds the pages of docs/ into build/docs/, after the same
# set-up as the other scripts. A warning, such as a link to nowhere, fails the build. Nothing is taken
# from an earlier build: pages that have not changed would keep their warnings to themselves.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

ensure_python docs
# Python looks for als_spark here first: the API pages are those of this checkout.
cd -- "$ROOT"
"$VENV/bin/python" -m sphinx --builder html --fresh-env --write-all --fail-on-warning --quiet \
    --doctree-dir build/doctrees "$@" docs build/docs
say "the pages begin at $ROOT/build/docs/index.html"
