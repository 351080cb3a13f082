"""Fits that are lost after some iterations, and the same fits again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark import ALS, ALSModel, IterationRecord, PrepareOptions
from als_spark.ml import training
from als_spark.ml.checkpoints import ratings_digest
from tests.spark.ml.ratings import some_ratings


class Lost(BaseException):
    """The process is gone."""


@pytest.fixture
def folder(spark: SparkSession, tmp_path: Path) -> Iterator[Path]:
    context = spark.sparkContext
    context.setCheckpointDir(tmp_path.as_uri())
    yield tmp_path
    context._jsc.sc().setCheckpointDir(None)


def bits(model: ALSModel) -> list[Any]:
    found = [(side.ids.to_pylist(), side.factors.tobytes()) for side in model.side_factors]
    history = [(entry.objective, entry.change) for entry in model.summary.iterations]
    return [*found, history]


class Heard:
    """Iterations by model, until the process is lost."""

    def __init__(self, last: int = 1000) -> None:
        self.points: list[tuple[int, int]] = []
        self._last = last

    def __call__(self, record: IterationRecord) -> None:
        if len(self.points) == self._last:
            raise Lost
        self.points.append((record.point, record.iteration))


def test_lost_fits_go_on(
    spark: SparkSession,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(training, "PrepareOptions", partial(PrepareOptions, placement="ratings"))
    frame = some_ratings().frame(spark).cache()
    als = ALS(rank=3, maxIter=5, regParam=0.2, seed=5, biases=True, checkpointInterval=2)
    maps = [{als.maxIter: 3}, {als.rank: 2}, {als.regParam: 0.5}]

    def fit_all(estimator: ALS) -> list[ALSModel]:
        return [estimator.fit(frame), *estimator.fit(frame, maps)]

    wanted = [bits(model) for model in fit_all(als.copy({als.checkpointInterval: -1}))]
    assert [path.name for path in folder.glob("als_spark-*")] == []

    with pytest.raises(Lost):
        als.copy({als.callback: Heard(4)}).fit(frame)
    (kept,) = folder.glob("als_spark-*")
    assert [path.name for path in kept.iterdir()] == ["training"]
    # Three models in each of three iterations, then two in one.
    with pytest.raises(Lost):
        als.copy({als.callback: Heard(11)}).fit(frame, maps)
    assert len(list(folder.glob("als_spark-*"))) == 2
    # Of other ratings, so nobody's to take.
    others = frame.withColumn("rating", F.expr("rating + if(user = 1, 1, 0)"))
    assert ratings_digest(others) != ratings_digest(frame)
    assert ratings_digest(frame.repartition(2)) == ratings_digest(frame)

    # As in another process, for which Spark makes another folder.
    spark.sparkContext.setCheckpointDir(folder.as_uri())
    heard, heard_all = Heard(), Heard()
    caplog.clear()
    found = [als.copy({als.callback: heard}).fit(frame)]
    found += als.copy({als.callback: heard_all}).fit(frame, maps)
    assert heard.points == [(0, 5)]
    assert heard_all.points == [(1, 5), (2, 5)]
    assert "resumed at iteration 4\n" in caplog.text
    assert "resumed at iteration 4; models done before: 1" in caplog.text
    assert [bits(model) for model in found] == wanted
    assert list(folder.glob("als_spark-*")) == []
