"""Shuffled and mixed exchange against one process, on skewed ratings, however these lie."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError, SolveError
from als_spark.ml.als import ALS
from als_spark.solve.objective import Objective
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.best import best_model
from als_spark.spark.train.factor_blocks import DistributedFactors
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.spark.train.shuffle import RoutedRatings
from als_spark.train.backend import Factors, HeldFactors
from als_spark.train.baseline import fit_biases
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.loop import continue_training, train_models
from als_spark.train.metrics import ErrorSums
from als_spark.train.ranking import RankingRule, popularity
from als_spark.train.records import Judge, ModelSpec, TrainingOptions
from als_spark.train.state import LoopState, start_states
from tests.conftest import MOVIELENS

EXACT = PrepareOptions(
    dtype="float64", cold_start="initial", split=SplitOptions(seed=3), ranks=(30,)
)
OPTIONS = TrainingOptions(dtype="float64", seed=5, tol=0.0, max_iter=3)
MIXED = {
    "users stay": {"user": "broadcast", "item": "shuffle"},
    "items stay": {"user": "shuffle", "item": "broadcast"},
}
OBJECTIVES = (
    Objective(0.5),
    Objective(0.1, 1.0, implicit=True, alpha=2.0),
    Objective(0.2, bias_reg=0.3, mean=3.0),
)
SPECS = [*grid_specs([2], OBJECTIVES), ModelSpec(3, 3, Objective(0.2, 1.0, nonnegative=True))]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """Ratings of which user 0 and item 0 have a large part: rows with more work than a block."""
    rng = np.random.default_rng(2)
    pairs = {(0, int(item)) for item in rng.permutation(60)[:55]}
    pairs |= {(int(user), 0) for user in rng.permutation(80)[:75]}
    pairs |= {divmod(int(pair), 60) for pair in rng.permutation(80 * 60)[:200]}
    rows = [(user, item, float(rng.integers(1, 6))) for user, item in sorted(pairs)]
    return spark.createDataFrame(rows, "user int, item int, rating double").repartition(3)


def prepared_as(
    spark: SparkSession, frame: DataFrame, exchange: Any, partitions: int, **more: Any
) -> PreparedRatings:
    options = replace(EXACT, partitions=partitions, exchange=exchange, **more)
    return prepare_ratings(spark, source_from_frame(frame), options)


class Kept:
    """Keeps all models, as arrays, with their error sums."""

    needs_errors = True

    def __init__(self) -> None:
        self.models: dict[int, tuple[LoopState, Factors, Mapping[Any, ErrorSums]]] = {}

    def add(self, trained: LoopState, sums: Mapping[Any, ErrorSums], rankings: Any) -> None:
        assert rankings == {}
        self.models[trained.spec.point] = trained, trained.plain_factors.collect(), sums


def train(prepared: PreparedRatings, options: Any = OPTIONS, specs: Any = SPECS) -> Kept:
    kept = Kept()
    train_grid(prepared, specs, options, kept)
    return kept


@pytest.fixture(scope="module")
def wanted(spark: SparkSession, frame: DataFrame) -> Kept:
    """The models of one process."""
    options = replace(EXACT, placement="grid")
    with prepare_ratings(spark, source_from_frame(frame), options) as prepared:
        kept = Kept()
        backend = prepared.backend
        for state in train_models(backend, SPECS, OPTIONS):
            (sums,) = backend.errors([state.plain_factors], "")
            kept.add(state, sums, {})
    return kept


def compare(found: Kept, wanted: Kept) -> None:
    assert found.models.keys() == wanted.models.keys()
    for point, (state, factors, sums) in found.models.items():
        other, expected, errors = wanted.models[point]
        for record, same in zip(state.history, other.history, strict=True):
            for name in ("objective", "change", "penalty"):
                assert getattr(record, name) == pytest.approx(getattr(same, name), rel=1e-9)
        for one, two in zip(factors, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-9 * np.abs(two).max())
        assert sums.keys() == errors.keys() == {"train", "test"}
        for split in sums:
            assert sums[split].count == errors[split].count > 0
            assert sums[split].squared == pytest.approx(errors[split].squared, rel=1e-9)
            assert sums[split].absolute == pytest.approx(errors[split].absolute, rel=1e-9)


@pytest.mark.parametrize(
    ("exchange", "partitions"),
    [
        pytest.param("shuffle", 1, marks=pytest.mark.slow),
        ("shuffle", 3),
        pytest.param("users stay", 3, marks=pytest.mark.slow),
        pytest.param("items stay", 3, marks=pytest.mark.slow),
    ],
)
def test_the_factors_of_one_process(
    spark: SparkSession, frame: DataFrame, wanted: Kept, exchange: str, partitions: int
) -> None:
    context = spark.sparkContext
    gc.collect()
    before = context._jsc.getPersistentRDDs().size()
    with prepared_as(spark, frame, MIXED.get(exchange, exchange), partitions) as prepared:
        assert isinstance(prepared.backend, RoutedRatings)
        shared = [prepared.backend.sides[side].shared_rows.size for side in ("user", "item")]
        assert shared == [int(partitions > 1)] * 2
        found = train(prepared)
        stay = [isinstance(own, DistributedFactors) for own in found.models[0][0].factors]
        assert stay == [exchange != "items stay", exchange != "users stay"]
        compare(found, wanted)
        # Numbers alone, which no model has learnt.
        biases = fit_biases(prepared.backend, prepared.stats, "biases alone")
        (sums,) = prepared.backend.errors([biases], "errors of the biases alone")
        plain = HeldFactors(*biases).collect()
        assert plain.users.shape[1] == plain.items.shape[1] == 2
        assert 0 < sums["train"].squared / sums["train"].count < 2
    # Once nothing refers to the models, their factors are gone too.
    del found, biases
    gc.collect()
    assert context._jsc.getPersistentRDDs().size() == before


@pytest.mark.slow
def test_more_partitions_than_rows(spark: SparkSession) -> None:
    rows = [(u, i, float(1 + (u * i) % 5)) for u in range(4) for i in range(3)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double")
    specs, found = [ModelSpec(0, 2, Objective(1.0, implicit=True))], []
    for exchange, partitions in (("broadcast", 1), ("shuffle", 6)):
        with prepared_as(spark, frame, exchange, partitions) as prepared:
            found.append(train(prepared, replace(OPTIONS, max_iter=2), specs))
    compare(*found)


@pytest.mark.slow
def test_the_lineage_and_what_is_kept_stay_as_they_are(
    spark: SparkSession, frame: DataFrame
) -> None:
    context = spark.sparkContext
    sizes: list[int] = []

    def look(states: Any) -> None:
        gc.collect()
        stores = [own.store for own in states[0].factors]
        for store in stores:
            lineage = store.rdd._jrdd.rdd().toDebugString()
            assert "LocalCheckpointRDD" in lineage
            assert "Shuffled" not in lineage
        sizes.append(context._jsc.getPersistentRDDs().size())

    with prepared_as(spark, frame, "shuffle", 2) as prepared:
        train_models(prepared.backend, SPECS[:1], replace(OPTIONS, max_iter=4), on_states=look)
    assert len(sizes) == 4
    assert len(set(sizes[1:])) == 1


@pytest.mark.slow
def test_with_a_checkpoint_directory_factors_outlive_what_is_persisted(
    spark: SparkSession, frame: DataFrame, tmp_path: Path
) -> None:
    context = spark.sparkContext
    context.setCheckpointDir(str(tmp_path))
    try:
        with prepared_as(spark, frame, "shuffle", 2) as prepared:
            (state,) = train_models(prepared.backend, SPECS[:1], OPTIONS)
            factors = state.factors.collect()
            stores = [own.store for own in state.factors]
            for store in stores:
                # As if the executors had died.
                store.rdd._jrdd.unpersist(True)
            for again, own in zip(state.factors.collect(), factors, strict=True):
                np.testing.assert_array_equal(again, own)
            more = replace(OPTIONS, max_iter=4)
            continue_training(prepared.backend, [replace(state, stopped=False)], more)
            gc.collect()
            # Those that something refers to, of both sides, and no others.
            assert len(list(tmp_path.glob("*/rdd-*"))) == 2
    finally:
        context._jsc.sc().setCheckpointDir(None)


@pytest.mark.slow
def test_trainings_begin_stop_and_go_on_as_in_one_process(
    spark: SparkSession, frame: DataFrame, wanted: Kept
) -> None:
    """Models that drop out, given starts, a best model, acceleration."""
    with prepared_as(spark, frame, MIXED["users stay"], 2) as prepared:
        backend = prepared.backend
        # Models of which the first ones end sooner, in a collector that keeps the best.
        each = [replace(OPTIONS, max_iter=n) for n in (1, 2, 3, 3)]
        collector = SweepCollector("test")
        train_grid(prepared, SPECS, each, collector)
        outcome = collector.outcome()
        assert outcome is not None
        assert [point.iterations for point in outcome.points] == [1, 2, 3, 3]
        last = wanted.models[3][0].objective
        assert outcome.points[3].objective == pytest.approx(last, rel=1e-9)
        # A state goes on from where it is, here from one iteration, and from arrays.
        (begun,) = train_models(backend, SPECS[:1], each[0])
        (gone_on,) = continue_training(backend, [replace(begun, stopped=False)], OPTIONS)
        (from_arrays,) = train_models(backend, SPECS[:1], each[1], starts=[begun.factors.collect()])
        for state in (gone_on, from_arrays):
            assert state.objective == pytest.approx(wanted.models[0][0].objective, rel=1e-9)
        # The driver has the items' factors, which is all that the extrapolation is of.
        fast = replace(OPTIONS, max_iter=6, accelerate=True)
        (accelerated,) = train_models(backend, SPECS[:1], fast)
        accelerated_factors = accelerated.factors.collect()
    model = best_model(prepared, collector)
    assert model.factors.users.shape == (len(prepared.summary.users), model.rank)
    with prepared_as(spark, frame, "broadcast", 2) as prepared:
        (expected,) = train_models(prepared.backend, SPECS[:1], fast)
        assert [record.objective for record in accelerated.history] == pytest.approx(
            [record.objective for record in expected.history], rel=1e-9
        )
        np.testing.assert_allclose(
            accelerated_factors.users, expected.factors.users, rtol=0, atol=1e-8
        )


@pytest.mark.slow
def test_rankings_need_only_the_items_whole(spark: SparkSession, frame: DataFrame) -> None:
    rule = RankingRule(top=3, max_users=40, seed=2)
    found = []
    for exchange in ("broadcast", MIXED["users stay"]):
        with prepared_as(spark, frame, exchange, 3, ranking=rule) as prepared:
            backend = prepared.backend
            degrees = prepared.stats["item"].degrees
            collector = SweepCollector("test", judge=Judge("ndcg"))
            train_grid(prepared, SPECS[:3], replace(OPTIONS, accelerate=True), collector)
            outcome = collector.outcome()
            assert outcome is not None
            models = [point.rankings["test"].as_record() for point in outcome.points]
            (popular,) = backend.rankings([popularity(80, degrees)], "popular")
            found.append((outcome.best, models, popular["test"].as_record()))
            if isinstance(backend, RoutedRatings):
                assert backend.ranking is not None
                # Of a shared row, which the driver ranks.
                assert [part.users.tolist() for part in backend.ranking.shared] == [[0]]
    (best, models, popular), (wanted, others, same) = found
    assert best == wanted
    for own, other in zip([*models, popular], [*others, same], strict=True):
        assert own == pytest.approx(other, rel=1e-9)
        assert own["users"] > 5
        assert 0 < own["ndcg"] < 1


@pytest.mark.slow
@pytest.mark.skipif(not MOVIELENS.exists(), reason=f"needs the ratings in {MOVIELENS}")
def test_movielens_in_every_exchange(spark: SparkSession) -> None:
    source = read_source(spark, SourceOptions(str(MOVIELENS)))
    specs = [
        ModelSpec(0, 10, Objective(0.1, 1.0)),
        ModelSpec(1, 10, Objective(0.1, 1.0, implicit=True, alpha=5.0)),
    ]
    found = []
    for exchange, partitions in (
        ("broadcast", 2),
        ("shuffle", 2),
        (MIXED["users stay"], 3),
        (MIXED["items stay"], 2),
    ):
        options = replace(EXACT, partitions=partitions, exchange=exchange, duplicates="last")
        with prepare_ratings(spark, source, replace(options, ranks=(10,))) as prepared:
            found.append(train(prepared, replace(OPTIONS, max_iter=4), specs))
    for other in found[1:]:
        compare(other, found[0])


def test_what_cannot_be_done_is_told(spark: SparkSession, frame: DataFrame) -> None:
    with prepared_as(spark, frame, "shuffle", 3) as prepared:
        with pytest.raises(ConfigError, match="`accelerate=` with the items' factors shuffled"):
            train(prepared, replace(OPTIONS, accelerate=True))
        with pytest.raises(SolveError, match=r"user \d+"):
            train(prepared, specs=grid_specs([40], [0.0]))
        # What fails leaves the next training as it was.
        assert train(prepared, specs=SPECS[:1]).models[0][0].iterations == 3
        (start,) = start_states(prepared.backend, SPECS[:1], OPTIONS)
        assert "HeldFactors" in repr(start.factors)


@pytest.mark.slow
def test_the_estimator_and_a_warm_start(spark: SparkSession, frame: DataFrame) -> None:
    als = ALS(rank=2, maxIter=2, regParam=0.1, seed=1)
    wanted = als.fit(frame)
    shuffled = als.copy({als.exchange: "shuffle"})
    for model, other in (
        (shuffled.fit(frame), wanted),
        (
            shuffled.copy({als.initialModel: wanted}).fit(frame),
            als.copy({als.initialModel: wanted}).fit(frame),
        ),
    ):
        for own, same in zip(model.side_factors, other.side_factors, strict=True):
            assert own.ids == same.ids
            np.testing.assert_allclose(own.factors, same.factors, rtol=0, atol=1e-4)
