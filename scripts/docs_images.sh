#!/usr/bin/env bash
# scripts/docs_images.sh [RATINGS]: draws docs/images/sweep.png and calibration.png anew, with a sweep
# over MovieLens latest-small (or the csv file given), and a model that every tenth of its ratings is
# kept from. docs/images/mllib.png and posterior.png are the pictures that scripts/bench.sh mllib and
# posterior write.
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

awk 'NR == 1 || NR % 10' "$ratings" >"$work/known.csv"
awk 'NR == 1 || NR % 10 == 0' "$ratings" >"$work/held-out.csv"
cd "$work"
"$ROOT/scripts/run.sh" train --ratings known.csv --method variational --test-fraction 0 --output variational
"$ROOT/scripts/run.sh" evaluate --model variational --ratings held-out.csv --output evaluated
cp evaluated/calibration.png "$ROOT/docs/images/calibration.png"
say "drew docs/images/calibration.png"
