"""Mean, spread, latest time and fingerprint of ratings, in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from als_spark.spark.read.moments import NO_MOMENTS, Moments
from als_spark.spark.read.row_hash import PairTexts


def moments(users: np.ndarray, ratings: np.ndarray, times: np.ndarray) -> Moments:
    ids, codes = np.unique(users, return_inverse=True)
    return Moments.of(PairTexts((codes, codes), (ids, ids + 5)), ratings, times)


def test_parts_add_up_in_any_order() -> None:
    rng = np.random.default_rng(0)
    users, ratings = rng.integers(-500, 500, 90), rng.normal(3.0, 1.0, 90)
    times = rng.uniform(0, 9, 90)
    whole = moments(users, ratings, times)
    cuts = [slice(50, 90), slice(0, 0), slice(0, 50)]
    parts = [moments(users[cut], ratings[cut], times[cut]) for cut in cuts]
    merged = Moments.merge(Moments.from_bytes(part.to_bytes()) for part in parts)
    assert merged[3:] == whole[3:]
    assert merged.fingerprint == whole.fingerprint
    assert merged.n == 90
    assert merged.latest == times.max()
    for found in (merged, whole):
        assert found.mean == pytest.approx(ratings.mean(), rel=1e-12)
        assert found.spread == pytest.approx(ratings.std(), rel=1e-12)


def test_the_fingerprint_knows_every_column() -> None:
    users, ratings, times = np.arange(3), np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0])
    known = {moments(users, ratings, times).digest, moments(users, ratings, times[:0]).digest}
    known |= {
        moments(users, ratings[::-1], times).digest,
        moments(users + 1, ratings, times).digest,
    }
    assert len(known) == 4
    assert math.isnan(moments(users, ratings, times[:0]).latest)


def test_no_ratings() -> None:
    none = np.zeros(0)
    assert moments(none.astype(np.int64), none, none) is NO_MOMENTS
    assert Moments.merge([]) is NO_MOMENTS
    assert math.isnan(NO_MOMENTS.spread)
