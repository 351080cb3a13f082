"""Biases and the cold start by means: against a twin, and MLlib as the reader of the factors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, ALSModel, PrepareOptions
from als_spark.ml import training
from tests import reference
from tests.spark.ml.ratings import Ratings, factors_of

REG, BIAS_REG = 0.2, 0.05
UNKNOWN = 10**6


@pytest.fixture(scope="module")
def model(frame: DataFrame) -> ALSModel:
    return als().fit(frame)


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, ratings: Ratings) -> DataFrame:
    users = [*np.unique(ratings.users).tolist(), UNKNOWN]
    items = [*np.unique(ratings.items).tolist(), UNKNOWN]
    rows = [(user, item) for user in users for item in items]
    return spark.createDataFrame(rows, "user int, item int")


def als(**params: Any) -> ALS:
    fixed = {"rank": 3, "maxIter": 3, "regParam": REG, "seed": 5}
    return ALS(**{**fixed, "biases": True, "biasRegParam": BIAS_REG, **params})


def biases_of(frame: DataFrame) -> dict[int, float]:
    return {row.id: row.bias for row in frame.collect()}


def predictions(model: Any, pairs: DataFrame) -> dict[tuple[int, int], float]:
    return {(row.user, row.item): row.prediction for row in model.transform(pairs).collect()}


def by_hand(model: ALSModel) -> dict[tuple[int, int], float]:
    """Every prediction from the tables that the model shows."""
    users, items = factors_of(model.userFactors), factors_of(model.itemFactors)
    user_biases, item_biases = biases_of(model.userBiases), biases_of(model.itemBiases)
    mean = model.globalMean
    assert mean is not None
    return {
        (u, i): mean + user_biases[u] + item_biases[i] + float(np.dot(users[u], items[i]))
        for u in users
        for i in items
    }


class TestTraining:
    def test_twin(self, frame: DataFrame, ratings: Ratings, model: ALSModel) -> None:
        started = als(maxIter=0).fit(frame)
        users, items = factors_of(started.userFactors), factors_of(started.itemFactors)
        user_ids, user_rows = np.unique(ratings.users, return_inverse=True)
        item_ids, item_rows = np.unique(ratings.items, return_inverse=True)
        start = (
            np.array([users[u] for u in user_ids.tolist()]),
            np.array([items[i] for i in item_ids.tolist()]),
        )
        twin = reference.biased_als(
            user_rows, item_rows, ratings.ratings, start, REG, BIAS_REG, nu=1.0, n_iterations=3
        )
        for found, ids, wanted in (
            (factors_of(model.userFactors), user_ids, twin.users),
            (factors_of(model.itemFactors), item_ids, twin.items),
            (biases_of(model.userBiases), user_ids, twin.user_biases),
            (biases_of(model.itemBiases), item_ids, twin.item_biases),
        ):
            own = np.array([found[k] for k in ids.tolist()])
            np.testing.assert_allclose(own, wanted, rtol=0, atol=3e-4)
        assert model.globalMean == pytest.approx(ratings.ratings.mean(), rel=1e-12)
        assert model.rank == 3

    def test_the_start_has_no_biases(self, frame: DataFrame) -> None:
        started = als(maxIter=0).fit(frame)
        for biases in (started.userBiases, started.itemBiases):
            np.testing.assert_allclose([*biases_of(biases).values()], 0, atol=1e-6)

    def test_partitioned_ratings(
        self, frame: DataFrame, model: ALSModel, pairs: DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = predictions(model, pairs)
        monkeypatch.setattr(
            training,
            "PrepareOptions",
            lambda **options: PrepareOptions(**options, placement="ratings", partitions=3),
        )
        found = predictions(als().fit(frame), pairs)
        for pair, value in wanted.items():
            assert found[pair] == pytest.approx(value, abs=1e-4, nan_ok=True)

    @pytest.mark.slow
    def test_a_grid(self, frame: DataFrame, pairs: DataFrame) -> None:
        estimator = als()
        maps = [{estimator.biases: False}, {estimator.biasRegParam: 2.0}, {estimator.rank: 1}]
        for params, own in zip(maps, estimator.fit(frame, maps), strict=True):
            alone = predictions(estimator.fit(frame, params), pairs)
            for pair, value in predictions(own, pairs).items():
                assert value == pytest.approx(alone[pair], abs=1e-4, nan_ok=True)

    @pytest.mark.slow
    def test_real_ratings(self, spark: SparkSession, movielens: Path) -> None:
        """Biases predict held-out ratings better than factors alone."""
        rated = spark.read.csv(str(movielens), header=True, inferSchema=True)
        train, test = rated.randomSplit([0.9, 0.1], seed=1)
        names = {"userCol": "userId", "itemCol": "movieId", "coldStartStrategy": "mean"}
        estimator = ALS(rank=10, regParam=0.1, seed=0, **names)
        models = estimator.fit(train, [{}, {estimator.biases: True}])
        evaluator = RegressionEvaluator(labelCol="rating")
        plain, biased = (evaluator.evaluate(own.transform(test)) for own in models)
        assert biased < plain - 0.005


class TestModel:
    def test_predictions(self, model: ALSModel, pairs: DataFrame) -> None:
        found, wanted = predictions(model, pairs), by_hand(model)
        for pair, value in wanted.items():
            assert found[pair] == pytest.approx(value, abs=1e-5)
        assert all(math.isnan(found[pair]) for pair in found.keys() - wanted.keys())

    @pytest.mark.slow
    def test_schemas(self, model: ALSModel, frame: DataFrame) -> None:
        theirs = mllib.ALS(rank=2, maxIter=1).fit(frame)
        assert model.userFactors.schema == theirs.userFactors.schema
        assert model.itemBiases.dtypes == [("id", "int"), ("bias", "float")]

    def test_recommendations(self, model: ALSModel) -> None:
        wanted = by_hand(model)
        for row in model.recommendForAllUsers(2).collect():
            best = sorted((p for (u, _), p in wanted.items() if u == row.user), reverse=True)[:2]
            assert [entry.rating for entry in row.recommendations] == pytest.approx(best, abs=1e-5)

    def test_cold_start(self, model: ALSModel, pairs: DataFrame) -> None:
        found = predictions(model.copy({model.coldStartStrategy: "Mean"}), pairs)
        wanted, mean = by_hand(model), model.globalMean
        assert mean is not None
        wanted |= {(u, UNKNOWN): mean + bias for u, bias in biases_of(model.userBiases).items()}
        wanted |= {(UNKNOWN, i): mean + bias for i, bias in biases_of(model.itemBiases).items()}
        wanted[UNKNOWN, UNKNOWN] = mean
        assert found == pytest.approx(wanted, abs=1e-5)

    def test_cold_start_without_biases(
        self, frame: DataFrame, ratings: Ratings, pairs: DataFrame
    ) -> None:
        plain = als(biases=False, coldStartStrategy="mean").fit(frame)
        for (user, item), value in predictions(plain, pairs).items():
            if UNKNOWN in (user, item):
                assert value == pytest.approx(ratings.ratings.mean(), rel=1e-6)
        with pytest.raises(IllegalArgumentException, match="this ALSModel has no biases: fit with"):
            plain.userBiases  # noqa: B018


class TestFiles:
    @pytest.mark.slow
    def test_ours(self, model: ALSModel, pairs: DataFrame, tmp_path: Path) -> None:
        path = str(tmp_path / "model")
        cold = model.copy({model.coldStartStrategy: "mean"})
        cold.save(path)
        loaded = ALSModel.load(path)
        assert predictions(loaded, pairs) == predictions(cold, pairs)
        assert (loaded.rank, loaded.globalMean) == (3, model.globalMean)
        assert factors_of(loaded.itemFactors) == factors_of(model.itemFactors)
        assert biases_of(loaded.userBiases) == biases_of(model.userBiases)

    @pytest.mark.slow
    def test_mllib_predicts_the_same(
        self, model: ALSModel, pairs: DataFrame, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "model")
        model.write().format("mllib").save(path)
        theirs = mllib.ALSModel.load(path)
        found, wanted = predictions(theirs, pairs), predictions(model, pairs)
        assert found == pytest.approx(wanted, abs=1e-5, nan_ok=True)
        assert theirs.rank == 5
        assert factors_of(ALSModel.load(path).itemFactors) == factors_of(model.itemFactors)

    @pytest.mark.slow
    def test_mllibs_models_know_no_mean(
        self, frame: DataFrame, pairs: DataFrame, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "model")
        mllib.ALS(rank=2, maxIter=1).fit(frame).save(path)
        loaded = ALSModel.load(path).setColdStartStrategy("mean")
        assert loaded.globalMean is None
        with pytest.raises(IllegalArgumentException, match="does not know the mean of its train"):
            loaded.transform(pairs)

    def test_what_mllib_lacks(self, model: ALSModel, tmp_path: Path) -> None:
        cold = model.copy({model.coldStartStrategy: "mean"})
        with pytest.raises(IllegalArgumentException, match="coldStartStrategy is mean, which MLli"):
            cold.write().format("mllib").save(str(tmp_path / "model"))
        with pytest.raises(IllegalArgumentException, match="parameter biases is True, which MLlib"):
            als().write().format("mllib").save(str(tmp_path / "als"))
        assert not [*tmp_path.iterdir()]

    def test_estimators(self, spark: SparkSession, tmp_path: Path) -> None:
        als().save(str(tmp_path / "als"))
        loaded = ALS.load(str(tmp_path / "als"))
        assert (loaded.getBiases(), loaded.getBiasRegParam()) == (True, BIAS_REG)
