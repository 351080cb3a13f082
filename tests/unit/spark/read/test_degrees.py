"""How many ratings the ids have, in a few numbers: against sorted lists."""

from __future__ import annotations

import math

import numpy as np
import pytest

from als_spark.spark.read.degrees import Degrees


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 99, 100, 1000])
def test_quantiles_are_those_of_the_sorted_counts(n: int) -> None:
    counts = np.random.default_rng(n).integers(1, 9, n)
    found = Degrees.of_counts(counts)
    ordered = sorted(counts.tolist())

    def quantile(share: float) -> int:
        return min(d for d in ordered if sum(c <= d for c in ordered) >= share * n - 1e-9)

    assert (found.ids, found.lowest, found.highest) == (n, ordered[0], ordered[-1])
    wanted = [quantile(share) for share in (0.25, 0.5, 0.75, 0.9, 0.99)]
    got = [found.quarter, found.median, found.three_quarters, found.most90, found.most99]
    assert got == wanted
    assert math.isclose(found.mean, sum(ordered) / n)
    assert math.isclose(found.few, sum(c < 5 for c in ordered) / n)
    assert Degrees.of_histogram(*np.unique(counts, return_counts=True)) == found
