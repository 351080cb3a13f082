"""Our pipeline beside PySpark's: the same models, and stages fitted no more often than needed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyspark.ml
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import Binarizer, SQLTransformer, StringIndexer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, Pipeline
from als_spark.ml import training

COLUMNS = ["name", "item", "rating"]


class Stages:
    """Indexer, ALS, and a transformer behind it, by name."""

    def __init__(self) -> None:
        self.indexer = StringIndexer(inputCol="name", outputCol="user", handleInvalid="skip")
        self.als = ALS(rank=2, maxIter=2, seed=3, coldStartStrategy="drop")
        self.binarizer = Binarizer(threshold=2.5, inputCol="score", outputCol="good")
        cast = SQLTransformer(statement="SELECT *, double(prediction) AS score FROM __THIS__")
        self.all = [self.indexer, self.als, cast, self.binarizer]

    def maps(self) -> list[dict[Any, Any]]:
        als, indexer = self.als, self.indexer
        return [
            {als.rank: 3},
            {als.regParam: 0.5, self.binarizer.threshold: 1.0},
            {indexer.stringOrderType: "alphabetAsc", als.rank: 4},
            {als.rank: 1, als.maxIter: 1},
            {},
        ]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        (f"u{user}", item, float(rng.integers(1, 6)))
        for user in range(20)
        for item in range(12)
        if rng.random() < 0.6
    ]
    return spark.createDataFrame(rows, "name string, item int, rating float").cache()


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of what is fitted, in this order."""
    found: list[str] = []
    fit_indexer, prepare = StringIndexer._fit, training.prepare_typed

    def fit(self: Any, dataset: DataFrame) -> Any:
        found.append("indexer")
        return fit_indexer(self, dataset)

    def read(*args: Any, **options: Any) -> Any:
        found.append("ratings")
        return prepare(*args, **options)

    monkeypatch.setattr(StringIndexer, "_fit", fit)
    monkeypatch.setattr(training, "prepare_typed", read)
    return found


def scored(model: Any, frame: DataFrame) -> list[tuple[str, int, float, float]]:
    rows = model.transform(frame).select("name", "item", "prediction", "good").collect()
    return sorted((row.name, row.item, row.prediction, row.good) for row in rows)


def close(found: list[Any], wanted: list[Any]) -> None:
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    values = [np.array([row[2:] for row in rows]) for rows in (found, wanted)]
    np.testing.assert_allclose(*values, atol=1e-4)


class TestFitMultiple:
    @pytest.mark.slow
    def test_as_pysparks_and_once(self, frame: DataFrame, fits: list[str]) -> None:
        stages = Stages()
        theirs = pyspark.ml.Pipeline(stages=stages.all).fit(frame, stages.maps())
        assert fits == ["indexer", "ratings"] * 5
        fits.clear()
        ours = Pipeline(stages=stages.all).fit(frame, stages.maps())
        # One order of the index of all maps but the third.
        assert sorted(fits) == ["indexer"] * 2 + ["ratings"] * 2
        for model, wanted in zip(ours, theirs, strict=True):
            assert type(model) is PipelineModel
            assert [type(stage) for stage in model.stages] == [type(s) for s in wanted.stages]
            close(scored(model, frame), scored(wanted, frame))
        assert ours[1].stages[3].getThreshold() == 1.0
        assert ours[0].stages[3].getThreshold() == 2.5

    def test_models_share_no_stage(self, frame: DataFrame) -> None:
        stages = Stages()
        maps = [{stages.als.rank: 1}, {stages.als.rank: 2}]
        first, second = Pipeline(stages=stages.all[:2]).fit(frame, maps)
        first.stages[0].setOutputCol("other")
        assert second.stages[0].getOutputCol() == "user"

    def test_threads(self, frame: DataFrame, fits: list[str]) -> None:
        stages = Stages()
        maps = [{stages.als.rank: k} for k in (1, 2, 3, 4)]
        models = Pipeline(stages=stages.all).fitMultiple(frame, maps)
        with ThreadPoolExecutor(4) as pool:
            found = dict(pool.map(lambda _: next(models), range(4)))
        assert [found[k].stages[1].rank for k in range(4)] == [1, 2, 3, 4]
        assert fits == ["indexer", "ratings"]
        with pytest.raises(StopIteration):
            next(models)

    @pytest.mark.slow
    def test_stages_in_a_map_and_nested_pipelines(self, frame: DataFrame, fits: list[str]) -> None:
        stages = Stages()
        inner = Pipeline(stages=[stages.als])
        outer = Pipeline(stages=[stages.indexer, inner])
        models = outer.fit(frame, [{stages.als.rank: k} for k in (1, 2)])
        assert fits == ["indexer", "ratings"]
        assert [model.stages[1].stages[0].rank for model in models] == [1, 2]
        als = ALS(rank=5, maxIter=1)
        more = [{outer.stages: [stages.indexer, als]}, {stages.als.rank: 3}]
        first, second = outer.fit(frame, more)
        assert (first.stages[1].rank, second.stages[1].stages[0].rank) == (5, 3)

    def test_others_than_als(self, spark: SparkSession) -> None:
        points = [(float(k), 3.0 * k + k % 3) for k in range(9)]
        rows = spark.createDataFrame(points, "x double, label double")
        regression = LinearRegression(maxIter=3)
        stages = [VectorAssembler(inputCols=["x"], outputCol="features"), regression]
        maps = [{regression.regParam: 0.0}, {regression.regParam: 9.0}]
        ours, theirs = (
            [model.stages[1].coefficients for model in cls(stages=stages).fit(rows, maps)]
            for cls in (Pipeline, pyspark.ml.Pipeline)
        )
        assert ours == theirs
        assert ours[0] != ours[1]

    def test_without_an_estimator(self, frame: DataFrame) -> None:
        kept = SQLTransformer(statement="SELECT item FROM __THIS__")
        models = Pipeline(stages=[kept]).fit(frame, [{}, {kept.statement: "SELECT 1 AS one"}])
        assert [model.transform(frame).columns for model in models] == [["item"], ["one"]]
        assert Pipeline(stages=[]).fit(frame, [{}])[0].stages == []

    def test_what_is_no_stage(self, frame: DataFrame) -> None:
        with pytest.raises(TypeError, match="Cannot recognize a pipeline stage of type"):
            Pipeline(stages=[RegressionEvaluator()]).fit(frame, [{}])  # type: ignore[list-item]


@pytest.mark.slow
def test_cross_validation(frame: DataFrame, fits: list[str], tmp_path: Path) -> None:
    stages = Stages()
    als = stages.als
    grid = ParamGridBuilder().addGrid(als.rank, [1, 2]).addGrid(als.regParam, [0.1, 9.0]).build()
    found = []
    for cls in (Pipeline, pyspark.ml.Pipeline):
        fits.clear()
        validator = CrossValidator(
            estimator=cls(stages=stages.all),
            estimatorParamMaps=grid,
            evaluator=RegressionEvaluator(labelCol="rating"),
            numFolds=2,
            seed=3,
        )
        model = validator.fit(frame)
        found.append((len(fits), model.avgMetrics, scored(model.bestModel, frame)))
    (ours, metrics, best), (theirs, wanted, their_best) = found
    # Two folds, and the best of all; of each the indexer and the ratings.
    assert (ours, theirs) == (6, 18)
    np.testing.assert_allclose(metrics, wanted, rtol=1e-5)
    close(best, their_best)


@pytest.mark.slow
def test_files(frame: DataFrame, tmp_path: Path) -> None:
    stages = Stages()
    pipeline = Pipeline(stages=stages.all)
    pipeline.save(str(tmp_path / "ours"))
    for cls in (Pipeline, pyspark.ml.Pipeline):
        loaded = cls.load(str(tmp_path / "ours"))
        assert type(loaded) is cls
        assert loaded.uid == pipeline.uid
        assert [stage.uid for stage in loaded.getStages()] == [s.uid for s in stages.all]
    loaded.save(str(tmp_path / "theirs"))
    assert type(Pipeline.load(str(tmp_path / "theirs"))) is Pipeline
    validator = CrossValidator(
        estimator=pipeline,
        estimatorParamMaps=[{stages.als.rank: 1}, {stages.als.rank: 2}],
        evaluator=RegressionEvaluator(labelCol="rating"),
        numFolds=2,
    )
    validator.save(str(tmp_path / "validator"))
    again = CrossValidator.load(str(tmp_path / "validator"))
    assert type(again.getEstimator()) is Pipeline
    assert [[*values.values()] for values in again.getEstimatorParamMaps()] == [[1], [2]]
    java = Pipeline(stages=[stages.indexer])
    java.save(str(tmp_path / "java"))
    assert Pipeline.load(str(tmp_path / "java")).getStages()[0].uid == stages.indexer.uid
