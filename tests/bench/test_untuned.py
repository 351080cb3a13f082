"""Methods without an option against the best of grids: what is compared with what."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.bench.synthetic import NOISE, generate
from scripts.bench.untuned import against_best, ratings_of


def test_a_method_is_compared_with_the_best_ridge_and_its_own_best_rank() -> None:
    errors = {
        "sample": 1.0,
        "sample, rank 4": 0.8,
        "sample, rank 8": 1.2,
        "variational": 0.5,
        "ridge, rank 4, λ 5": 2.0,
        "ridge, rank 4, λ 9": 1.6,
    }
    rows = {name: {"rmse": rmse, "noise": 0.7, "seconds": 3.0} for name, rmse in errors.items()}
    found = against_best("sample", rows)
    assert (found["ridge"], found["over_ridge"]) == ("ridge, rank 4, λ 9", pytest.approx(0.625))
    assert (found["own"], found["over_own"]) == ("sample, rank 4", pytest.approx(1.25))


def test_synthetic_ratings_have_the_rank_and_the_noise_that_are_asked_for() -> None:
    known = ratings_of("synthetic", 2, quick=True)
    assert known.values.size == np.unique(known.users * 1000 + known.items).size == 5_000
    first, again, other = (
        generate(5_000, 200, 150, rank=rank, rounded=False).ratings for rank in (2, 2, 3)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Means of users and items, signal, noise: 0.16, 0.16, 0.25 and the square of the last.
    assert first.var() == pytest.approx(0.57 + NOISE**2, rel=0.2)
