#!/usr/bin/env bash
# scripts/docs_images.sh [RATINGS]: draws docs/images/sweep.png anew, with a sweep over MovieLens
# latest-small (or the ratings file given). docs/images/mllib.png is the picture that
# scripts/bench.sh mllib writes.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"

ratings=${1:-$ROOT/data/ml-latest-small/ratings.csv}
[[ -r $ratings ]] ||
    give_up "cannot read $ratings: get it with scripts/fetch_movielens.py ml-latest-small, or name a file of ratings"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$ROOT/scripts/sweep.sh" --ratings "$ratings" --output "$work/sweep"
cp "$work/sweep/sweep.png" "$ROOT/docs/images/sweep.png"
say "drew docs/images/sweep.png"
