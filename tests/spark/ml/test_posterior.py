"""The methods of the estimator that learn a prior, against the library in this process."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.tuning import CrossValidator
from pyspark.sql import DataFrame, SparkSession

from als_spark import (
    ALS,
    ALSModel,
    DataError,
    LocalBackend,
    PosteriorOptions,
    SideStats,
    build_block,
    place_features,
    row_features,
    train_posterior,
)
from als_spark.ml import deviations
from als_spark.model.ids import IdIndex
from als_spark.train.bayes.loop import Posterior
from als_spark.train.bayes.spread import spread_of
from als_spark.types import Side
from tests.spark.ml.ratings import Ratings

UNKNOWN = 10**6
COLUMNS = {"deviationCol": "sd", "lowerCol": "low", "upperCol": "high"}
COVERAGE = 0.8


class Twin(NamedTuple):
    """The same training in one process."""

    posterior: Posterior
    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]

    def places(self, n_items: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows of all users with each of the first items."""
        users, items = np.indices((self.users.size, n_items)).reshape(2, -1)
        return users, items

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return [(u, i) for u in range(self.users.size) for i in range(self.items.size)]


def numbered(
    ids: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids in the order of their dense rows, the most frequent first, and the row of each."""
    unique, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.lexsort((unique, -counts))
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    return unique[order], places[inverse]


def twin_of(
    ratings: Ratings, options: PosteriorOptions, features: dict[Side, Any] | None = None
) -> Twin:
    (users, rows), (items, columns) = numbered(ratings.users), numbered(ratings.items)
    by_user = build_block(rows, columns, ratings.ratings, n_rows=users.size, n_columns=items.size)
    by_item = build_block(columns, rows, ratings.ratings, n_rows=items.size, n_columns=users.size)
    stats = SideStats.of(users.size, [by_user])
    found = train_posterior(LocalBackend(by_user, by_item), stats, options, features=features)
    return Twin(found, users, items)


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, ratings: Ratings) -> DataFrame:
    users = [*np.unique(ratings.users).tolist(), UNKNOWN]
    items = [*np.unique(ratings.items).tolist(), UNKNOWN]
    return spark.createDataFrame([(u, i) for u in users for i in items], "user int, item int")


@pytest.fixture(scope="module")
def model(frame: DataFrame) -> ALSModel:
    als = ALS(method="variational", rank=2, maxIter=3, tol=0, seed=5, coverage=COVERAGE, **COLUMNS)
    return als.fit(frame)


def found_in(predicted: DataFrame, *names: str) -> dict[tuple[int, int], list[float]]:
    return {(r.user, r.item): [r[name] for name in names] for r in predicted.collect()}


def check_against(twin: Twin, predicted: DataFrame, tol: float = 1e-4) -> None:
    """Prediction, deviation and interval of every pair, and NaN of pairs of an unknown id."""
    found = found_in(predicted, "prediction", "sd", "low", "high")
    rows = np.array(twin.pairs)
    means, sds, noises = spread_of(twin.posterior).predict(rows[:, 0], rows[:, 1])
    half = NormalDist().inv_cdf(0.5 + COVERAGE / 2) * np.hypot(sds, noises)
    wanted = np.column_stack([means, sds, means - half, means + half])
    ids = [(int(twin.users[u]), int(twin.items[i])) for u, i in twin.pairs]
    np.testing.assert_allclose([found.pop(pair) for pair in ids], wanted, rtol=tol, atol=tol)
    assert len(found) == twin.users.size + twin.items.size + 1
    assert all(math.isnan(value) for values in found.values() for value in values)


def test_variational(
    spark: SparkSession,
    frame: DataFrame,
    ratings: Ratings,
    pairs: DataFrame,
    model: ALSModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin = twin_of(ratings, PosteriorOptions(rank=2, max_iter=3, tol=0, seed=5))
    predicted = model.transform(pairs)
    kinds = [field.simpleString() for field in predicted.schema]
    assert kinds[2:] == ["prediction:float", "sd:float", "low:float", "high:float"]
    check_against(twin, predicted)
    with monkeypatch.context() as patched:
        patched.setattr(deviations, "fits_arrow", lambda *_: False)
        joined = model.transform(pairs)
        assert [field.simpleString() for field in joined.schema] == kinds
        check_against(twin, joined)
        # Names with dots are names.
        dotted = {model.predictionCol: "a.b", model.deviationCol: "s.d", model.upperCol: ""}
        named = model.copy(dotted).transform(pairs.limit(1))
        assert named.columns == ["user", "item", "a.b", "s.d", "low"]
    assert model.copy(dotted).transform(pairs.limit(1)).columns == named.columns
    # Saved and loaded.
    path = str(tmp_path / "model")
    model.save(path)
    loaded = ALSModel.load(path)
    check_against(twin, loaded.transform(pairs))
    assert loaded.learnt == model.learnt
    cut = spark.read.parquet(f"{path}/userPosterior").where("id > 0").collect()
    spark.createDataFrame(cut).write.mode("overwrite").parquet(f"{path}/userPosterior")
    with pytest.raises(IllegalArgumentException, match="userPosterior: the posterior is not that"):
        ALSModel.load(path)
    # Off by default, and each by itself; what is dropped is dropped with them.
    for name in COLUMNS:
        loaded.clear(loaded.getParam(name))
    assert loaded.transform(pairs).columns == ["user", "item", "prediction"]
    loaded.setUpperCol("most").setColdStartStrategy("drop")
    known = loaded.transform(pairs)
    assert known.columns == ["user", "item", "prediction", "most"]
    assert known.count() == len(twin.pairs)
    # What it tells of the fit.
    summary, posterior = model.summary, twin.posterior
    assert (summary.totalIterations, summary.numRatings) == (3, ratings.ratings.size)
    assert summary.bound == pytest.approx(posterior.history[-1].bound, rel=1e-6)
    assert summary.objectiveHistory[0] == pytest.approx(-posterior.history[0].bound, rel=1e-6)
    assert summary.noise == pytest.approx(posterior.noise_deviation, rel=1e-6)
    rated = numbered(ratings.users)[1], numbered(ratings.items)[1]
    left = ratings.ratings - posterior.predict(*rated)
    assert summary.rmse == pytest.approx(math.sqrt(np.mean(left**2)), rel=1e-5)
    assert summary.rHat is None
    assert model.learnt is not None
    assert model.learnt["noise_deviation"] == summary.noise
    assert "variational" in model._repr_html_()
    assert model.rank == 3
    # MLlib loads its factors; recommendations are products as any.
    plain = model.copy()
    for name in (*COLUMNS, "coverage"):
        plain.clear(plain.getParam(name))
    plain.saveAsMLlib(str(tmp_path / "mllib"))
    theirs = mllib.ALSModel.load(str(tmp_path / "mllib")).transform(pairs)
    ours = found_in(plain.transform(pairs), "prediction")
    for pair, (value,) in found_in(theirs, "prediction").items():
        assert value == pytest.approx(ours[pair][0], rel=1e-5, nan_ok=True)


def test_errors_of_columns(frame: DataFrame, pairs: DataFrame, model: ALSModel) -> None:
    with pytest.raises(IllegalArgumentException, match="Column sd already exists"):
        model.transform(pairs.selectExpr("*", "1 AS sd"))
    with pytest.raises(IllegalArgumentException, match="Column sd already exists"):
        model.copy({model.lowerCol: "sd"}).transform(pairs)
    with pytest.raises(IllegalArgumentException, match="coverage given invalid value"):
        model.copy({model.coverage: 1.0}).transform(pairs)
    folded = model.foldIn(
        frame.where("item > 0").limit(5).selectExpr("1000 AS user", "item", "rating")
    )
    with pytest.raises(IllegalArgumentException, match="need the posterior of a model"):
        folded.transform(pairs)


@pytest.mark.slow
def test_several_methods_at_once(
    spark: SparkSession,
    frame: DataFrame,
    ratings: Ratings,
    pairs: DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    als = ALS(rank=2, seed=5)
    sample: dict[Any, Any] = {als.method: "sample", als.burnIn: 1, als.numSamples: 4}
    maps = [
        {als.maxIter: 2},
        {**sample, als.implicitFeatures: 2},
        {als.implicitFeatures: 2, als.maxIter: 2, als.regParam: 3.0},
        {als.maxIter: 2, als.regParam: 1.0},
    ]
    told: list[tuple[int, int]] = []
    als.setCallback(lambda record: told.append((record.point, record.iteration)))
    models = dict(als.fitMultiple(frame, maps))
    assert sorted(told) == [
        *((0, k) for k in (1, 2)),
        *((1, k) for k in range(1, 6)),
        *((2, k) for k in (1, 2)),
        *((3, k) for k in (1, 2)),
    ]
    for k in (0, 3):
        alone = als.copy({**maps[k], als.callback: None}).fit(frame)
        found = found_in(models[k].transform(pairs), "prediction")
        for pair, (value,) in found_in(alone.transform(pairs), "prediction").items():
            assert found[pair][0] == pytest.approx(value, nan_ok=True)
        assert models[k].learnt is None
    for k, options in (
        (1, PosteriorOptions("sample", rank=2, burn_in=1, samples=4, n_features=2, seed=5)),
        (2, PosteriorOptions("ridge", rank=2, max_iter=2, reg=3.0, n_features=2, seed=5)),
    ):
        twin = twin_of(ratings, options)
        found = found_in(models[k].transform(pairs), "prediction")
        rows = np.array(twin.pairs)
        wanted = twin.posterior.predict(rows[:, 0], rows[:, 1])
        ids = [(int(twin.users[u]), int(twin.items[i])) for u, i in twin.pairs]
        np.testing.assert_allclose([found[p][0] for p in ids], wanted, rtol=1e-3, atol=1e-3)
        if k == 1:
            check_samples(spark, twin, models[k], pairs, tmp_path, monkeypatch)
    with pytest.raises(IllegalArgumentException, match="need the posterior of a model"):
        models[2].setDeviationCol("sd").transform(pairs)
    summary = models[1].summary
    assert summary.rHat is not None
    assert summary.noise is not None
    assert models[2].summary.noise is None


def check_samples(
    spark: SparkSession,
    twin: Twin,
    model: ALSModel,
    pairs: DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deviations of samples: by broadcast, by joins, and of files."""
    model.setDeviationCol("sd").setLowerCol("low").setUpperCol("high").setCoverage(COVERAGE)
    check_against(twin, model.transform(pairs), 1e-3)
    with monkeypatch.context() as patched:
        patched.setattr(deviations, "fits_arrow", lambda *_: False)
        check_against(twin, model.transform(pairs), 1e-3)
    path = str(tmp_path / "sampled")
    model.save(path)
    loaded = ALSModel.load(path)
    check_against(twin, loaded.transform(pairs), 1e-3)
    assert loaded.learnt == model.learnt
    folder = f"{path}/itemPosterior"
    cut = spark.read.parquet(folder).selectExpr(
        "id", "scale", "mean", "slice(samples, 1, 4) samples"
    )
    spark.createDataFrame(cut.collect()).write.mode("overwrite").parquet(folder)
    with pytest.raises(IllegalArgumentException, match="itemPosterior: the posterior is not that"):
        ALSModel.load(path)


@pytest.mark.slow
def test_cross_validation_over_the_method(frame: DataFrame) -> None:
    als = ALS(rank=1, seed=5, coldStartStrategy="drop")
    maps = [
        {als.method: "ridge", als.maxIter: 1},
        {als.method: "variational", als.maxIter: 1},
    ]
    validator = CrossValidator(
        estimator=als,
        estimatorParamMaps=maps,
        evaluator=RegressionEvaluator(labelCol="rating"),
        numFolds=2,
        seed=1,
    )
    best = validator.fit(frame)
    assert len(best.avgMetrics) == 2
    assert best.avgMetrics[1] < best.avgMetrics[0]
    assert best.bestModel.learnt["method"] == "variational"


def test_what_has_no_effect_is_refused_before_anything_is_read(frame: DataFrame) -> None:
    with pytest.raises(IllegalArgumentException, match=r"^regParam=.* with method='variational'"):
        ALS(method="variational", regParam=0.1).fit(frame)


@pytest.mark.slow
def test_features_of_items(
    spark: SparkSession,
    frame: DataFrame,
    ratings: Ratings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As the library with the same numbers; items without a rating are part of the model."""
    ids = np.unique(ratings.items).tolist()
    new = [1000, 1001]
    rows = [(float(k), "ab"[k % 2], float(k % 7), f"t{k}") for k in (*ids[1:], *new)]
    films = spark.createDataFrame(rows, "item double, kind string, size double, title string")
    als = ALS(method="variational", rank=2, maxIter=2, tol=0, seed=5, deviationCol="sd")
    als.setItemFeatures(films)
    model = als.fit(frame)
    assert "itemFeatures: no feature of title: no value of at least 5 rows" in caplog.text
    options = PosteriorOptions(rank=2, max_iter=2, tol=0, seed=5)
    known, columns = numbered(ratings.items)
    index, degrees = IdIndex(pa.array(known)), np.bincount(columns)
    kept = films.select(films.item.cast("int").alias("item"), "kind", "size")
    placed = place_features(row_features(kept, "item"), index, degrees)
    twin = twin_of(ratings, options, {"item": placed.table})
    everyone = [*known.tolist(), *new]
    users = np.unique(ratings.users).tolist()
    pairs = spark.createDataFrame([(u, i) for u in users for i in everyone], "user int, item int")
    wanted = dict(
        zip(
            [(int(u), i) for u in twin.users for i in everyone],
            zip(*spread_of(twin.posterior).predict(*twin.places(len(everyone)))[:2], strict=True),
            strict=True,
        )
    )

    def check(found: ALSModel) -> None:
        for pair, values in found_in(found.transform(pairs), "prediction", "sd").items():
            assert values == pytest.approx(wanted[pair], rel=1e-4, abs=1e-4)

    check(model)
    assert model.learnt is not None
    told = model.learnt["features"]["item"]
    assert (told["features"], told["rated_without"], told["by_features_alone"]) == (3, 1, 2)
    # They are recommended, and known to the library and the store as what they are.
    best = model.recommendForUserSubset(pairs.limit(1), len(everyone)).head()
    assert {row.item for row in best.recommendations} == {*everyone}
    assert model.toFactorModel().item_stats.n_by_features == 2
    model.save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    check(loaded)
    assert loaded.learnt == model.learnt
    # The estimator has them in its files, which may be written over by one that was loaded.
    path = str(tmp_path / "als")
    als.copy({als.itemFeatureCols: ["size", "kind"]}).save(path)
    again = ALS.load(path)
    again.write().overwrite().save(path)
    again = ALS.load(path)
    assert again.getItemFeatures().columns == ["item", "size", "kind"]
    caplog.clear()
    check(again.fit(frame))
    assert caplog.text == ""
    again.clear(again.deviationCol)
    with pytest.raises(IllegalArgumentException, match=r"parameter \w+ is .*MLlib's ALS lacks"):
        again.write().format("mllib").save(str(tmp_path / "mllib"))


@pytest.mark.parametrize(
    ("rows", "schema", "more", "message"),
    [
        ([(1, 2.0)], "film int, size double", {}, "^itemFeatures: item does not exist. Available"),
        (
            [(2.5, 2.0)],
            "item double, size double",
            {},
            r"^itemFeatures: 1 unusable row: ALS only supports .*item=2.5.*or filter them out$",
        ),
        (
            [("a", 2.0)],
            "item string, size double",
            {"nativeIds": True},
            "^itemFeatures: .* be like",
        ),
        ([(1, 2.0), (1, 3.0)], "item int, size double", {}, "^itemFeatures: .*item 1 is there 2 t"),
        (
            [(1, 2.0), (2, 3.0)],
            "item int, size double",
            {},
            "ids is of a rated item.*with itemCol$",
        ),
        (
            [(1, 2.0)],
            "item int, size double",
            {"itemFeatureCols": ["year"]},
            "^itemFeatures: no column 'year' .itemFeatureCols.: the columns",
        ),
    ],
)
def test_features_that_cannot_be(
    spark: SparkSession,
    frame: DataFrame,
    rows: list[Any],
    schema: str,
    more: dict[str, Any],
    message: str,
) -> None:
    als = ALS(itemFeatures=spark.createDataFrame(rows, schema), **more)
    with pytest.raises((IllegalArgumentException, DataError), match=message):
        als.fit(frame)
