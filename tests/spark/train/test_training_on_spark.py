"""Both placements against the notebook's twin, against each other, and against how data lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import SolveError
from als_spark.solve.objective import Objective
from als_spark.spark import planner as planning
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.sources import SourceOptions, read_source, sample_ratings
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector, SweepOutcome, grid_specs
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, PointResult, TrainingOptions
from als_spark.train.start import initial_factors
from als_spark.train.state import LoopState
from tests import reference
from tests.conftest import random_triples

EXACT = PrepareOptions(dtype="float64", cold_start="initial", split=SplitOptions(seed=3))
OPTIONS = TrainingOptions(dtype="float64", seed=5)


def sweep(
    prepared: PreparedRatings,
    ranks: Sequence[int],
    objectives: Sequence[Objective | float],
    options: TrainingOptions = OPTIONS,
    **extra: Any,
) -> SweepOutcome:
    collector = SweepCollector("test")
    train_grid(prepared, grid_specs(ranks, objectives), options, collector, **extra)
    outcome = collector.outcome()
    assert outcome is not None
    return outcome


def frame_of(spark: SparkSession, n_ratings: int = 400, seed: int = 0) -> DataFrame:
    t = random_triples(n_ratings=n_ratings, seed=seed)
    rows = zip(t.users.tolist(), t.items.tolist(), t.ratings.tolist(), strict=True)
    return spark.createDataFrame(list(rows), "user int, item int, rating double")


def measures(point: PointResult) -> list[float]:
    train, test = point.errors["train"], point.errors["test"]
    return [train.mse, train.mae, test.mse, test.mae, point.objective]


def dense_parts(prepared: PreparedRatings) -> dict[str, tuple[Any, Any, Any]]:
    """The split ratings by dense row, read back from a backend in one process."""
    assert isinstance(prepared.backend, LocalBackend)
    parts = {"train": prepared.backend.blocks["user"].triples()}
    return parts | {part.split: part.block.triples() for part in prepared.backend.evaluation}


# A wider tolerance where each iteration costs two Spark jobs.
@pytest.mark.parametrize(
    ("placements", "ranks", "lambdas", "nu", "tol"),
    [
        (("grid",), (1, 5, 20, 50), (1.0, 2.0, 4.0, 6.0), 0.0, 1e-3),
        pytest.param(
            *(("grid", "ratings"), (1, 5, 20, 50), (1.0, 4.0), 0.0, 0.1), marks=pytest.mark.slow
        ),
        (("grid", "ratings"), (5,), (0.05, 0.2), 1.0, 0.1),
    ],
)
def test_every_grid_point_is_the_notebooks_in_both_placements(
    spark: SparkSession,
    placements: Sequence[str],
    ranks: Sequence[int],
    lambdas: Sequence[float],
    nu: float,
    tol: float,
) -> None:
    source = read_source(spark, SourceOptions(path=sample_ratings()))
    options, objectives = replace(OPTIONS, tol=tol), [Objective(reg, nu) for reg in lambdas]
    outcomes = {}
    for placement in placements:
        ready = replace(EXACT, placement=placement, ranks=ranks)
        with prepare_ratings(spark, source, ready) as prepared:
            assert prepared.plan.placement == placement
            outcomes[placement] = sweep(prepared, ranks, objectives, options)
            if placement == "grid":
                parts = dense_parts(prepared)
    n_users, n_items = 30, 100
    for position, spec in enumerate(grid_specs(ranks, objectives)):
        start = initial_factors(n_users, n_items, spec.rank, OPTIONS.seed)
        fit = reference.notebook_als(*parts["train"], start, spec.objective.reg, nu=nu, tol=tol)
        expected = [
            *reference.errors(*parts["train"], fit.users, fit.items),
            *reference.errors(*parts["test"], fit.users, fit.items),
            fit.objective,
        ]
        for outcome in outcomes.values():
            point = outcome.points[position]
            assert point.spec == spec
            assert (point.iterations, point.converged) == (fit.iterations, fit.converged)
            np.testing.assert_allclose(measures(point), expected, rtol=1e-6)


@pytest.mark.slow
def test_rows_with_more_work_than_a_block_are_shared(spark: SparkSession) -> None:
    # One item that every user has rated, one user who has rated every item, and few others.
    pairs = {(user, 0) for user in range(60)} | {(0, item) for item in range(50)}
    pairs |= {(user, 1 + user % 7) for user in range(1, 60)}
    rng = np.random.default_rng(0)
    # Ratings of 0 and below, which count less where feedback is implicit.
    rows = [(u, i, float(rng.integers(-1, 6))) for u, i in sorted(pairs)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double").repartition(3)
    options = replace(OPTIONS, tol=0.0, max_iter=6)
    implicit = {"implicit": True, "alpha": 2.0}
    objectives = [
        Objective(0.3),
        Objective(0.3, 1.0, **implicit),
        Objective(0.3, nonnegative=True),
        Objective(0.3, 1.0, **implicit, nonnegative=True),
    ]
    outcomes = []
    for placement, partitions in (("ratings", 12), ("ratings", 1), ("grid", None)):
        ready = replace(EXACT, placement=placement, partitions=partitions)
        with prepare_ratings(spark, source_from_frame(frame), ready) as prepared:
            outcomes.append(sweep(prepared, [2, 4], objectives, options))
            if partitions == 12:
                slices = prepared.backend.slices.collect()  # type: ignore[attr-defined]
                shared = [part for part in slices if part.shared]
    for side in ("user", "item"):
        parts = [part.ratings for part in shared if part.side == side]
        assert len(parts) == 12, "the row is in every block of its side"
        # Users and items are numbered by falling count.
        assert {row for part in parts for row in part.rows.tolist()} == {0}
    for outcome in outcomes[1:]:
        for point, first in zip(outcome.points, outcomes[0].points, strict=True):
            np.testing.assert_allclose(measures(point), measures(first), rtol=1e-9)
        np.testing.assert_allclose(
            outcome.best_factors.users, outcomes[0].best_factors.users, rtol=1e-9, atol=1e-12
        )


def test_a_shared_row_without_a_solution_is_named(spark: SparkSession) -> None:
    # No ridge, and the shared user's ratings are of one item's factors times a number.
    rows = [(7, item, 3.0 + item % 2) for item in range(30)] + [(8, 0, 1.0), (9, 1, 2.0)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double")
    ready = replace(EXACT, placement="ratings", partitions=4, split=SplitOptions(test_fraction=0))
    start = Factors(np.ones((3, 2)), np.ones((30, 2)))
    with (
        prepare_ratings(spark, source_from_frame(frame), ready) as prepared,
        pytest.raises(SolveError, match="user"),
    ):
        train_models(
            prepared.backend,
            [ModelSpec(0, 2, Objective(0.0))],
            replace(OPTIONS, max_iter=2),
            starts=[start],
        )


def test_duplicates_where_nothing_is_held_out(spark: SparkSession) -> None:
    rows = [(user, item, 1.0 + (user + item) % 5) for user in range(8) for item in range(6)]
    frame = spark.createDataFrame([*rows, (3, 3, 9.0)], "user int, item int, rating double")
    options = replace(OPTIONS, tol=0.0, max_iter=3)
    objectives = []
    for placement in ("ratings", "grid"):
        ready = replace(
            EXACT,
            placement=placement,
            duplicates="mean",
            split=SplitOptions(test_fraction=0),
            partitions=2,
        )
        with prepare_ratings(spark, source_from_frame(frame), ready) as prepared:
            assert (prepared.n_duplicates, prepared.n_ratings) == (1, {"train": 48})
            (model,) = train_models_of(prepared, options)
            objectives.append(model.objective)
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-9)


def train_models_of(prepared: PreparedRatings, options: TrainingOptions) -> list[LoopState]:
    return train_models(prepared.backend, [ModelSpec(0, 2, Objective(0.5))], options)


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["broadcast", "shuffle"])
def test_models_too_large_for_a_worker_go_in_groups(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, exchange: Any
) -> None:
    options = replace(OPTIONS, max_iter=2, tol=0.0)
    outcomes = []
    for _ in range(2):
        ready = replace(EXACT, placement="ratings", partitions=2, exchange=exchange)
        with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
            outcomes.append(sweep(prepared, [2, 3], [1.0], options))
        monkeypatch.setattr(planning, "WORKER_BYTES", 1)
    for whole, grouped in zip(*(outcome.points for outcome in outcomes), strict=True):
        assert measures(whole) == measures(grouped)


@pytest.mark.slow
def test_accelerated_in_both_placements(spark: SparkSession) -> None:
    frame = frame_of(spark)
    options = replace(OPTIONS, accelerate=True, tol=0.0, max_iter=20)
    outcomes = []
    for placement, partitions in (("ratings", 1), ("ratings", 5), ("grid", None)):
        ready = replace(EXACT, placement=placement, partitions=partitions)
        with prepare_ratings(spark, source_from_frame(frame), ready) as prepared:
            outcomes.append(sweep(prepared, [2, 6], [0.1, 1.0], options))
    plain = replace(options, accelerate=False)
    with prepare_ratings(
        spark, source_from_frame(frame), replace(EXACT, placement="grid")
    ) as prepared:
        slow = sweep(prepared, [2, 6], [0.1, 1.0], plain)
    for points in zip(*(outcome.points for outcome in outcomes), slow.points, strict=True):
        first, *same, without = points
        assert first.objective < without.objective
        assert first.as_record()["evaluations"] >= first.iterations == without.evaluations == 20
        for other in same:
            assert other.evaluations == first.evaluations
            np.testing.assert_allclose(measures(other), measures(first), rtol=1e-9)


def test_partitions_and_order_of_the_input_do_not_matter(spark: SparkSession) -> None:
    frame = frame_of(spark)
    capped = replace(OPTIONS, max_iter=4)
    outcomes = []
    for partitions, shuffled in ((1, False), (3, False), (8, True)):
        given = frame.orderBy("rating", "item").repartition(7) if shuffled else frame.coalesce(1)
        ready = replace(EXACT, placement="ratings", partitions=partitions)
        with prepare_ratings(spark, source_from_frame(given), ready) as prepared:
            assert prepared.plan.n_blocks == partitions
            outcomes.append(sweep(prepared, [3], [0.5, 2.0], capped))
    with prepare_ratings(
        spark, source_from_frame(frame), replace(EXACT, placement="grid")
    ) as prepared:
        outcomes.append(sweep(prepared, [3], [0.5, 2.0], capped))
    for outcome in outcomes[1:]:
        assert outcome.best == outcomes[0].best
        for point, first in zip(outcome.points, outcomes[0].points, strict=True):
            assert point.iterations == first.iterations
            np.testing.assert_allclose(measures(point), measures(first), rtol=1e-9)
        np.testing.assert_allclose(
            outcome.best_factors.users, outcomes[0].best_factors.users, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_rows_that_are_held_out_whole_are_no_preferences(
    spark: SparkSession, placement: str
) -> None:
    split = SplitOptions(seed=3, test_fraction=0.6)
    source = source_from_frame(frame_of(spark, n_ratings=150))
    with prepare_ratings(spark, source, replace(EXACT, split=split, placement="grid")) as prepared:
        users, items, ratings = dense_parts(prepared)["train"]
    ready = replace(EXACT, split=split, placement=placement, partitions=3)
    objective = Objective(0.2, 1.0, implicit=True, alpha=3.0)
    with prepare_ratings(spark, source, ready) as prepared:
        capped = replace(OPTIONS, tol=0.0, max_iter=2)
        outcome = sweep(prepared, [3], [objective], capped)
        sizes = len(prepared.summary.users), len(prepared.summary.items)
    now = start = initial_factors(*sizes, 3, OPTIONS.seed)
    for record in outcome.points[0].history:
        solved = reference.implicit_rows(users, items, ratings, now.items, now.users, 0.2, 1.0, 3.0)
        now = Factors(
            solved,
            reference.implicit_rows(items, users, ratings, solved, now.items, 0.2, 1.0, 3.0),
        )
        wanted = reference.implicit_objective(users, items, ratings, *now, 0.2, 1.0, 3.0)
        assert record.objective == pytest.approx(wanted, rel=1e-9)
    unseen = np.setdiff1d(np.arange(sizes[1]), items)
    assert unseen.size > 0
    np.testing.assert_array_equal(now.items[unseen], start.items[unseen])
    np.testing.assert_allclose(outcome.best_factors.items, now.items, rtol=1e-8, atol=1e-12)


def test_more_partitions_than_rows(spark: SparkSession) -> None:
    rows = [(u, i, float(1 + (u * i) % 5)) for u in range(4) for i in range(3)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double")
    found = []
    for partitions in (1, 6):
        ready = replace(EXACT, placement="ratings", partitions=partitions)
        with prepare_ratings(spark, source_from_frame(frame), ready) as prepared:
            found.append(sweep(prepared, [2], [1.0], replace(OPTIONS, max_iter=2)))
    np.testing.assert_allclose(*(measures(o.points[0]) for o in found), rtol=1e-9)


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_same_seed_and_partitioning_is_the_same_bit_for_bit(
    spark: SparkSession, placement: str
) -> None:
    found = []
    for _ in range(2):
        ready = replace(EXACT, placement=placement, partitions=3, dtype="float32")
        with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
            options = replace(OPTIONS, dtype="float32", max_iter=5)
            found.append(sweep(prepared, [4], [1.0], options))
    first, second = found
    assert [measures(p) for p in first.points] == [measures(p) for p in second.points]
    np.testing.assert_array_equal(first.best_factors.items, second.best_factors.items)


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_given_starts_are_used(spark: SparkSession, placement: str) -> None:
    rng = np.random.default_rng(8)
    ready = replace(EXACT, placement=placement)
    with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
        sizes = len(prepared.summary.users), len(prepared.summary.items)
        start = Factors(rng.normal(size=(sizes[0], 2)), rng.normal(size=(sizes[1], 2)))
        capped = replace(OPTIONS, max_iter=1)
        mine = sweep(prepared, [2], [1.0], capped, starts=[start])
        usual = sweep(prepared, [2], [1.0], capped)
        if placement == "grid":
            parts = dense_parts(prepared)
            fit = reference.notebook_als(*parts["train"], start, 1.0, max_iter=1)
            np.testing.assert_allclose(mine.best_factors.users, fit.users, rtol=1e-9)
    assert mine.points[0].iterations == 1
    assert not mine.points[0].converged
    assert measures(mine.points[0]) != measures(usual.points[0])


@pytest.mark.spark35
@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_every_iteration_is_heard_of_once(spark: SparkSession, placement: str) -> None:
    heard: list[Any] = []
    ready = replace(EXACT, placement=placement)
    with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
        capped = replace(OPTIONS, max_iter=3, tol=0.0)
        outcome = sweep(prepared, [2, 3], [1.0], capped, on_iteration=heard.append)
    for k, point in enumerate(outcome.points):
        assert [record.iteration for record in point.history] == [1, 2, 3]
        assert [record for record in heard if record.point == k] == list(point.history)
    assert len(heard) == 6


def test_float32_reaches_the_test_error_of_float64(spark: SparkSession) -> None:
    source = read_source(spark, SourceOptions(path=sample_ratings()))
    errors = {}
    for dtype in ("float32", "float64"):
        ready = replace(EXACT, dtype=dtype, placement="grid")
        with prepare_ratings(spark, source, ready) as prepared:
            outcome = sweep(prepared, [5, 20], [2.0], replace(OPTIONS, dtype=dtype))
        assert outcome.best_factors.items.dtype == dtype
        errors[dtype] = [point.errors["test"].mse for point in outcome.points]
    np.testing.assert_allclose(errors["float32"], errors["float64"], atol=1e-3)


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_exact_rank_data_are_recovered(spark: SparkSession, placement: str) -> None:
    rng = np.random.default_rng(2)
    users, items = rng.random((60, 3)), rng.random((50, 3))
    rows = [
        (u, i, float(users[u] @ items[i]))
        for u in range(60)
        for i in range(50)
        if rng.random() < 0.6
    ]
    frame = spark.createDataFrame(rows, "user int, item int, rating double")
    with prepare_ratings(
        spark, source_from_frame(frame), replace(EXACT, placement=placement)
    ) as prepared:
        options = replace(OPTIONS, tol=1e-9, max_iter=2000 if placement == "grid" else 40)
        outcome = sweep(prepared, [3], [1e-8], options)
    assert outcome.points[0].errors["test"].rmse < 1e-3


@pytest.mark.slow
def test_cold_ratings_are_predicted_as_asked(spark: SparkSession) -> None:
    train = [(u, i, float(1 + (u + i) % 5)) for u in range(6) for i in range(5)]
    test = [(0, 99, 2.0), (77, 1, 3.0), (77, 99, 4.0)]
    columns = "user int, item int, rating double"
    known = [(1, 98, 1.0)]
    frame = spark.createDataFrame(train, columns)
    test_frame = spark.createDataFrame(test + known, columns)
    means = {}
    for cold_start in ("mean", "drop", "initial"):
        ready = replace(EXACT, cold_start=cold_start, placement="ratings")
        with prepare_ratings(
            spark,
            source_from_frame(frame),
            ready,
            test_source=source_from_frame(test_frame),
        ) as prepared:
            assert prepared.n_ratings == {"train": 30, "test": 4}
            collector = SweepCollector("test")
            capped = replace(OPTIONS, max_iter=2)
            train_grid(prepared, grid_specs([2], [1.0]), capped, collector)
            outcome = collector.outcome()
            means[cold_start] = outcome and outcome.points[0].errors["test"]
    user_0 = np.mean([r for u, _, r in train if u == 0])
    user_1 = np.mean([r for u, _, r in train if u == 1])
    item_1 = np.mean([r for _, i, r in train if i == 1])
    overall = np.mean([r for _, _, r in train])
    expected = np.array([2.0 - user_0, 3.0 - item_1, 4.0 - overall, 1.0 - user_1])
    assert means["mean"].cold == means["initial"].cold == 4
    np.testing.assert_allclose(means["mean"].mse, np.mean(expected**2), rtol=1e-12)
    np.testing.assert_allclose(means["mean"].mae, np.mean(np.abs(expected)), rtol=1e-12)
    # Every test rating is cold: with them left out nothing is there to choose by.
    assert means["drop"] is None
    assert means["initial"].count == 4
    assert means["initial"].mse != means["mean"].mse


def test_duplicates_are_resolved_before_training(spark: SparkSession) -> None:
    rows = [(u, i, float(1 + (u * i) % 5), 100) for u in range(8) for i in range(6)]
    rows += [(0, 0, 5.0, 300), (0, 0, 2.0, 200), (3, 3, 1.0, 50)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double, at long")
    sums = {}
    for how in ("mean", "last"):
        ready = replace(EXACT, duplicates=how, split=SplitOptions(test_fraction=0.0))
        with prepare_ratings(spark, source_from_frame(frame, timestamp="at"), ready) as prepared:
            assert prepared.n_duplicates == 2
            assert prepared.n_ratings == {"train": 48}
            row = prepared.summary.users.rows_of([0, 3])
            sums[how] = prepared.stats["user"].sums[row]
    once = {(u, i): r for u, i, r, _ in rows[:48]}
    user_0 = sum(once[0, i] for i in range(1, 6))
    user_3 = sum(once[3, i] for i in range(6) if i != 3)
    np.testing.assert_allclose(
        sums["mean"], [user_0 + (once[0, 0] + 5 + 2) / 3, user_3 + (once[3, 3] + 1) / 2]
    )
    np.testing.assert_allclose(sums["last"], [user_0 + 5, user_3 + once[3, 3]])


def test_spark_jobs_are_described_and_nothing_stays_behind(spark: SparkSession) -> None:
    context = spark.sparkContext
    ready = replace(EXACT, placement="ratings", partitions=2)
    jvm_persisted = context._jsc.getPersistentRDDs().size()
    with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
        sweep(prepared, [2], [1.0], replace(OPTIONS, max_iter=2))
        names = {rdd.name() for rdd in context._jsc.getPersistentRDDs().values()}
        assert {"als_spark: training ratings", "als_spark: held-out ratings"} <= names
    assert context._jsc.getPersistentRDDs().size() == jvm_persisted
    store = context._jsc.sc().statusStore()
    jobs = store.jobsList(None)
    described = [jobs.apply(k).description() for k in range(jobs.size())]
    texts = [text.get() for text in described if text.isDefined()]
    assert any("ALS iteration 2: items" in text for text in texts)
    assert any("packing ratings by user and by item" in text for text in texts)


def test_the_real_ratings_meet_the_rule(spark: SparkSession, movielens: Path) -> None:
    source = read_source(spark, SourceOptions(path=str(movielens)))
    with prepare_ratings(spark, source, PrepareOptions(placement="grid")) as prepared:
        assert len(prepared.summary.users) == 671
        assert sum(prepared.n_ratings.values()) == 100_004
        outcome = sweep(prepared, [1, 5], [2.0, 6.0], TrainingOptions())
    assert all(point.converged and 20 < point.iterations < 300 for point in outcome.points)
    assert 0.8 < outcome.points[outcome.best].errors["test"].mse < 0.9
