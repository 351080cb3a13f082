"""MLlib's published contract of implicit feedback and nonnegative factors, asked of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark import ALS
from tests.spark.ml.contract import OURS, TYPES, both, factors_of, planted

Rows = list[tuple[int, int, float]]


def fit(spark: SparkSession, als: Any, rows: Rows, **params: Any) -> Any:
    given = {"rank": 2, "maxIter": 4, "seed": 0, "numUserBlocks": 2, "numItemBlocks": 3}
    return als(**given | params).fit(spark.createDataFrame(rows, TYPES))


@pytest.fixture(scope="module")
def seen() -> tuple[Rows, Rows]:
    """Pairs to fit and pairs to predict, of which more have been seen where they are liked."""
    rng = np.random.default_rng(2)
    train, test = (
        [row for row in rows if rng.random() < (0.8 if row[2] > 0 else 0.2)]
        for rows in planted(20, 40, 2, 0.01, seed=3)
    )
    known = [{row[k] for row in train} for k in (0, 1)]
    return train, [row for row in test if row[0] in known[0] and row[1] in known[1]]


@pytest.mark.slow
@both
def test_implicit_feedback(spark: SparkSession, als: Any, seen: tuple[Rows, Rows]) -> None:
    train, test = seen
    model = fit(spark, als, train, implicitPrefs=True, regParam=0.01)
    found = model.transform(spark.createDataFrame(test, TYPES)).collect()
    assert len(found) == len(test) > 50
    # MLlib's measure: preferences within [0, 1], weighted by the confidence.
    rating, prediction = (np.array([row[k] for row in found]) for k in (2, 3))
    weights = 1 + np.abs(rating)
    errors = np.clip(prediction, 0, 1) - np.clip(rating, 0, 1)
    assert np.sqrt(np.average(errors**2, weights=weights)) < 0.3
    # A pair that is liked is above one that is not, four times out of five.
    liked = rating > 0
    assert (prediction[liked][:, None] > prediction[~liked]).mean() > 0.8


@both
def test_a_negative_rating_is_not_a_rating_of_zero(spark: SparkSession, als: Any) -> None:
    liked = [(0, 0, 1.0), (1, 1, 1.0)]
    models = [
        fit(spark, als, [*liked, (0, 1, rating)], rank=1, implicitPrefs=True, regParam=0.01)
        for rating in (-3.0, 0.0)
    ]
    for side in ("userFactors", "itemFactors"):
        negative, zero = (factors_of(getattr(model, side)) for model in models)
        assert negative.keys() == zero.keys() == {0, 1}
        assert all(negative[k] != zero[k] for k in (0, 1))


@both
@pytest.mark.parametrize("implicit", [False, True])
def test_nonnegative(
    spark: SparkSession, als: Any, seen: tuple[Rows, Rows], implicit: bool
) -> None:
    model = fit(spark, als, seen[0], nonnegative=True, implicitPrefs=implicit)
    for frame in (model.userFactors, model.itemFactors):
        values = np.array([*factors_of(frame).values()])
        assert values.min() == 0
        assert values.max() > 0


@pytest.mark.parametrize("als", [OURS])
def test_fifty_iterations(spark: SparkSession, als: type[ALS]) -> None:
    # MLlib's take a folder for checkpoints: its lineage grows with the iterations.
    rows = [(user, item, 1.0) for user in range(4) for item in range(4) if user != item]
    model = fit(spark, als, rows, rank=1, maxIter=50, implicitPrefs=True, regParam=0.3)
    found = model.transform(spark.createDataFrame(rows, TYPES)).collect()
    # By symmetry each is the p that minimises 12·2(1 − p)² + 4p² + λ·3·8p, λ = 0.3.
    for row in found:
        assert row.prediction == pytest.approx((48 - 24 * 0.3) / 56, abs=1e-4)
