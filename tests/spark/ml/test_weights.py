"""Weights of ratings through the estimator: against weighted equations, and repeated rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException, SparkRuntimeException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark import ALS, ConfigError, PrepareOptions
from als_spark.ml import training
from als_spark.ml.columns import typed_ratings
from als_spark.solve.objective import Objective
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from tests import reference
from tests.spark.ml.ratings import Ratings, factors_of

REG = 0.2
TYPES = "user int, item int, rating float, w double"


@pytest.fixture(scope="module")
def weights(ratings: Ratings) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 4, ratings.ratings.size).astype(float)


@pytest.fixture(scope="module")
def frame(spark: SparkSession, ratings: Ratings, weights: np.ndarray) -> DataFrame:
    rows = zip(*(values.tolist() for values in (*ratings, weights)), strict=True)
    return spark.createDataFrame(list(rows), TYPES).repartition(3).cache()


def als(**params: Any) -> ALS:
    return ALS(**{"rank": 3, "maxIter": 3, "regParam": REG, "seed": 5, "weightCol": "w", **params})


def sides(model: Any) -> list[dict[int, list[float]]]:
    return [factors_of(model.userFactors), factors_of(model.itemFactors)]


def assert_close(found: Any, wanted: Any, tolerance: float) -> None:
    for own, expected in zip(sides(found), sides(wanted), strict=True):
        assert own.keys() == expected.keys()
        for key, row in expected.items():
            np.testing.assert_allclose(own[key], row, rtol=0, atol=tolerance)


def partitioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        training,
        "PrepareOptions",
        lambda **options: PrepareOptions(**options, placement="ratings", partitions=3),
    )


@pytest.mark.parametrize("placement", ["grid", "ratings"])
def test_items_solve_the_weighted_equations(
    frame: DataFrame,
    ratings: Ratings,
    weights: np.ndarray,
    placement: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if placement == "ratings":
        partitioned(monkeypatch)
    model = als().fit(frame)
    users, items = sides(model)
    kept = weights > 0
    user_ids, user_rows = np.unique(ratings.users[kept], return_inverse=True)
    item_ids, item_rows = np.unique(ratings.items[kept], return_inverse=True)
    assert users.keys() == {*user_ids.tolist()}
    fixed = np.array([users[u] for u in user_ids.tolist()])
    wanted, _ = reference.weighted_rows(
        item_rows, user_rows, ratings.ratings[kept], weights[kept], fixed, REG, 1.0
    )
    for row, item in enumerate(item_ids.tolist()):
        np.testing.assert_allclose(items[item], wanted[row], rtol=0, atol=1e-4)
    # The errors are weighted as the objective weighs them.
    predicted = [
        np.dot(users[u], items[i])
        for u, i in zip(ratings.users[kept].tolist(), ratings.items[kept].tolist(), strict=True)
    ]
    squares = (ratings.ratings[kept] - predicted) ** 2
    rmse = math.sqrt(np.average(squares, weights=weights[kept]))
    assert model.summary.rmse == pytest.approx(rmse, rel=1e-4)
    assert model.summary.rmse != pytest.approx(math.sqrt(squares.mean()), rel=1e-3)


def test_weight_zero_is_left_out(frame: DataFrame) -> None:
    ones = frame.withColumn("w", F.when(F.col("w") > 1, 1.0).otherwise(0.0))
    wanted = als(weightCol="").fit(frame.where("w > 1"))
    found = als().fit(ones)
    assert sides(found) == sides(wanted)
    assert found.globalMean == wanted.globalMean


@pytest.mark.slow
def test_the_mean_and_the_biases_are_those_of_repeated_ratings(
    spark: SparkSession, ratings: Ratings, weights: np.ndarray, frame: DataFrame
) -> None:
    """The numbers of ratings are kept equal: each user has rated each item as often."""
    rows = [(u, i, float(1 + (u * i) % 5), 2.0) for u in range(6) for i in range(5)]
    weighted = spark.createDataFrame(rows, TYPES)
    repeated = weighted.union(weighted)
    # λ n of a row of n ratings of weight 2 is half of that of 2 n ratings.
    found = als(biases=True, regParam=0.4).fit(weighted)
    wanted = als(biases=True, regParam=0.2, weightCol="").fit(repeated)
    assert_close(found, wanted, 1e-4)
    for own, expected in (
        (found.userBiases, wanted.userBiases),
        (found.itemBiases, wanted.itemBiases),
    ):
        biases = {row.id: row.bias for row in own.collect()}
        for row in expected.collect():
            assert biases[row.id] == pytest.approx(row.bias, abs=1e-4)
    mean = als().fit(frame).globalMean
    assert mean == pytest.approx(np.average(ratings.ratings, weights=weights), rel=1e-12)


@pytest.mark.slow
def test_partitions_change_nothing(spark: SparkSession, frame: DataFrame) -> None:
    typed = typed_ratings(frame, "user", "item", "rating", "w")
    spec = ModelSpec(0, 3, Objective(0.2, 1.0, bias_reg=0.1, mean=3.0))
    options = TrainingOptions(max_iter=4, tol=0.0, dtype="float64")
    models = []
    for placement, partitions, spread in (("grid", None, 1), ("ratings", 1, 4), ("ratings", 5, 2)):
        prepare = PrepareOptions(
            duplicates="keep", dtype="float64", placement=placement, partitions=partitions
        )
        with prepare_typed(spark, typed.repartition(spread), "ratings", prepare) as prepared:
            models.append((*train_models(prepared.backend, [spec], options), prepared.mean))
    first, mean = models[0]
    for other, other_mean in models[1:]:
        np.testing.assert_allclose(other.factors.users, first.factors.users, rtol=1e-9, atol=1e-12)
        assert other.objective == pytest.approx(first.objective, rel=1e-9)
        assert other_mean == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "Weights MUST NOT be Null or NaN, but got null "),
        (math.nan, "Weights MUST NOT be Null or NaN, but got NaN "),
        (-0.5, "Weights MUST NOT be negative, but got -0.5 "),
        (-math.inf, "Weights MUST NOT be Infinity, but got -Infinity "),
        (1e300, "Weights MUST be within the range of 32-bit floats, but got 1.0E300 "),
    ],
)
def test_unusable_weights(spark: SparkSession, weight: float | None, message: str) -> None:
    rows = [(1, 1, 2.0, 1.0), (2, 1, 2.0, weight), (1, 2, 2.0, 0.0)]
    with pytest.raises(SparkRuntimeException) as caught:
        als().fit(spark.createDataFrame(rows, TYPES))
    assert str(caught.value).startswith(message)


def test_unusable_columns(frame: DataFrame) -> None:
    with pytest.raises(
        IllegalArgumentException, match=r"^x does not exist\. Available: user, item"
    ):
        als(weightCol="x").fit(frame)
    text = frame.withColumn("w", F.col("w").cast("string"))
    with pytest.raises(IllegalArgumentException, match="Column w must be of type numeric but was"):
        als().fit(text)
    with pytest.raises(IllegalArgumentException, match="No ratings available from the DataFrame"):
        als().fit(frame.withColumn("w", F.lit(0)))


def test_weights_need_ratings_of_their_own(spark: SparkSession, frame: DataFrame) -> None:
    typed = typed_ratings(frame, "user", "item", "rating", "w")
    with pytest.raises(ConfigError, match=r'^here: duplicates="mean" with weights is not usable'):
        prepare_typed(spark, typed, "here", PrepareOptions(duplicates="mean"))
