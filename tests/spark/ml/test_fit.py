"""A fit that is watched, that tells what it did, and that starts where another has ended."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, ALSModel, IterationRecord, PrepareOptions
from als_spark.ml import training
from tests.spark.ml.ratings import factors_of, some_ratings


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    return some_ratings().frame(spark).cache()


@pytest.fixture(params=[pytest.param("grid", marks=pytest.mark.slow), "ratings"])
def placement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(
        training, "PrepareOptions", partial(PrepareOptions, placement=request.param)
    )
    return str(request.param)


def als(**params: Any) -> ALS:
    return ALS(**{"rank": 3, "maxIter": 3, "regParam": 0.2, "seed": 5, **params})


def close(model: ALSModel, wanted: ALSModel) -> None:
    for found, other in (
        (model.userFactors, wanted.userFactors),
        (model.itemFactors, wanted.itemFactors),
    ):
        mine, theirs = factors_of(found), factors_of(other)
        assert mine.keys() == theirs.keys()
        for key, row in theirs.items():
            np.testing.assert_allclose(mine[key], row, atol=1e-4)


class TestSummary:
    def test_of_each_model(self, frame: DataFrame, placement: str) -> None:
        estimator = als()
        evaluator = RegressionEvaluator(labelCol="rating")
        maps = [{estimator.rank: 2}, {estimator.maxIter: 40, estimator.tol: 0.5}]
        first, second = estimator.fit(frame, maps)
        for model in (first, second):
            assert model.hasSummary
            error = evaluator.evaluate(model.transform(frame))
            assert model.summary.rmse == pytest.approx(error, rel=1e-4)
            assert model.summary.numRatings == 250
            assert model.copy().summary == model.summary
        assert first.summary.totalIterations == 3
        assert not first.summary.converged
        assert 3 < second.summary.totalIterations < 40
        assert second.summary.converged

    @pytest.mark.slow
    def test_a_loaded_model_has_none(self, frame: DataFrame, tmp_path: Path) -> None:
        model = als().fit(frame)
        model.save(str(tmp_path / "model"))
        loaded = ALSModel.load(str(tmp_path / "model"))
        assert not loaded.hasSummary
        with pytest.raises(RuntimeError, match="No training summary available"):
            loaded.summary  # noqa: B018
        tree = ET.fromstring(loaded._repr_html_())
        assert tree.find("svg") is None

    @pytest.mark.slow
    def test_in_a_notebook(self, frame: DataFrame) -> None:
        model = als(userCol="user").fit(frame)
        theirs = mllib.ALS(rank=3, maxIter=1).fit(frame)
        assert repr(model) == repr(theirs).replace(theirs.uid, model.uid)
        tree = ET.fromstring(model._repr_html_())
        cells = {row.find("th").text: row.find("td").text for row in tree.iter("tr")}
        assert (cells["rank"], cells["users"], cells["items"]) == ("3", "30", "20")
        assert (cells["regParam"], cells["userCol"]) == ("0.2", "user")
        assert len(tree.find("svg/polyline").get("points").split()) == 3


class TestCallback:
    def test_it_hears_of_every_iteration(self, frame: DataFrame, placement: str) -> None:
        heard: list[IterationRecord] = []
        estimator = als(callback=heard.append)
        models = estimator.fit(frame, [{estimator.rank: 2}, {estimator.maxIter: 4}])
        for k, model in enumerate(models):
            own = [record for record in heard if record.point == k]
            assert [record.iteration for record in own] == [*range(1, len(own) + 1)]
            assert [record.objective for record in own] == model.summary.objectiveHistory
        assert len(heard) == 7

    def test_what_it_raises_ends_the_fit(
        self, spark: SparkSession, frame: DataFrame, placement: str
    ) -> None:
        heard = []

        def stop(record: IterationRecord) -> None:
            heard.append(record.iteration)
            if record.iteration == 2:
                raise LookupError("enough")

        persisted = spark.sparkContext._jsc.getPersistentRDDs().size()
        with pytest.raises(LookupError, match="enough"):
            als(maxIter=9).setCallback(stop).fit(frame)
        assert heard == [1, 2]
        assert spark.sparkContext._jsc.getPersistentRDDs().size() == persisted
        assert als().fit(frame).rank == 3


class TestInitialModel:
    def test_iterations_go_on(self, frame: DataFrame, placement: str) -> None:
        earlier = als(maxIter=2).fit(frame)
        close(als(maxIter=1, initialModel=earlier).fit(frame), als(maxIter=3).fit(frame))

    @pytest.mark.slow
    def test_ids_that_it_lacks_start_as_usual(self, frame: DataFrame) -> None:
        earlier = als(seed=1).fit(frame.where("item > 0 AND user > 0"))
        mixed = als(maxIter=0, initialModel=earlier).fit(frame)
        usual = als(maxIter=0).fit(frame)
        for side in ("userFactors", "itemFactors"):
            found, known, other = (
                factors_of(getattr(model, side)) for model in (mixed, earlier, usual)
            )
            assert 0 < len(known) < len(found)
            assert found == {key: known.get(key, other[key]) for key in found}

    def test_another_rank(self, frame: DataFrame) -> None:
        estimator = als(initialModel=als(maxIter=0).fit(frame))
        with pytest.raises(IllegalArgumentException) as caught:
            estimator.fit(frame, {estimator.rank: 4})
        assert str(caught.value) == (
            f"{estimator.uid} parameter initialModel has rank 3, but rank is 4: "
            "set them to the same"
        )

    @pytest.mark.slow
    def test_in_a_map_and_in_files(self, frame: DataFrame, tmp_path: Path) -> None:
        earlier = als(maxIter=2).fit(frame)
        plain = als(maxIter=1)
        warm, cold = plain.fit(frame, [{plain.initialModel: earlier}, {}])
        close(warm, als(maxIter=3).fit(frame))
        assert factors_of(cold.userFactors) != factors_of(warm.userFactors)
        estimator = als(maxIter=1, initialModel=earlier, callback=print)
        assert estimator.copy().getInitialModel() is earlier
        estimator.save(str(tmp_path / "als"))
        loaded = ALS.load(str(tmp_path / "als"))
        assert loaded.getCallback() is None
        close(loaded.fit(frame), warm)
        loaded.write().overwrite().save(str(tmp_path / "als"))
        assert ALS.load(str(tmp_path / "als")).getInitialModel().uid == earlier.uid
        with pytest.raises(IllegalArgumentException, match=r"initialModel is .*MLlib's ALS lacks"):
            loaded.write().format("mllib").save(str(tmp_path / "mllib"))
        estimator.setInitialModel(None).write().format("mllib").save(str(tmp_path / "mllib"))
        assert mllib.ALS.load(str(tmp_path / "mllib")).uid == estimator.uid
