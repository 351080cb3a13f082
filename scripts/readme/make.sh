#!/usr/bin/env bash
# scripts/readme/make.sh: makes the picture of README.md anew, from the MovieLens ratings of
# ../shared/data (or the ratings file given).
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
ratings=${1:-$here/../../../shared/data/ml-latest-small/ratings.csv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/../sweep.sh" --ratings "$ratings" --output "$work/sweep"
cp "$work/sweep/sweep.png" "$here/sweep.png"
echo "made $here/sweep.png"
