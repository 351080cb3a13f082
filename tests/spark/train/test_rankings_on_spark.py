"""Ranking measures on Spark: both placements, however data lie, and pyspark's own evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from pyspark.ml.evaluation import RankingEvaluator
from pyspark.sql import DataFrame, SparkSession

from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.solve.topk import Seen, top_items
from als_spark.spark.predict.evaluate import RANKING_MEASURES, RankingOptions, evaluate_models
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.baseline import fit_biases
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.ranking import RankingRule, popularity
from als_spark.train.records import Judge, RankingMeans, TrainingOptions

RULE = RankingRule(top=5, relevant_from=4.0, seed=3)
EXACT = PrepareOptions(
    dtype="float64", split=SplitOptions(seed=3, validation_fraction=0.2), ranking=RULE
)
PLACES = [("grid", None), ("ratings", 1), ("ratings", 24)]


def frame_of(spark: SparkSession, *, n_users: int = 60, n_items: int = 40) -> DataFrame:
    """One user has rated everything, so that most blocks are too many for her ratings."""
    rng = np.random.default_rng(8)
    pairs = {(0, item) for item in range(n_items)}
    pairs |= {(u, i) for u in range(n_users) for i in range(n_items) if rng.random() < 0.12}
    # Few ratings each: some are held out with all that their user, or their item, has.
    pairs |= {(100 + k, k % n_items) for k in range(15)} | {(k, 200 + k) for k in range(15)}
    rows = [(u, i, float(rng.integers(1, 6))) for u, i in sorted(pairs)]
    return spark.createDataFrame(rows, "user int, item int, rating double")


def factors_of(prepared: PreparedRatings, rank: int = 3) -> Factors:
    """Factors by original id, so that they do not depend on how rows are numbered."""
    summary = prepared.summary
    sides = []
    for seed, ids in ((1, summary.users.ids), (2, summary.items.ids)):
        drawn = np.random.default_rng(seed).normal(size=(300, rank))
        sides.append(drawn[ids.to_numpy()])
    return Factors(*sides)


def values_of(means: RankingMeans) -> list[float]:
    return [float(value) for value in asdict(means).values()]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(RULE, marks=pytest.mark.slow),
        pytest.param(replace(RULE, max_users=12), marks=pytest.mark.slow),
        replace(RULE, top=2),
    ],
)
def test_measures_do_not_depend_on_where_ratings_lie(
    spark: SparkSession, rule: RankingRule
) -> None:
    source = source_from_frame(frame_of(spark).repartition(3))
    found = []
    for placement, partitions in PLACES:
        ready = replace(EXACT, placement=placement, partitions=partitions, ranking=rule)
        with prepare_ratings(spark, source, ready) as prepared:
            models = [factors_of(prepared, 3), factors_of(prepared, 2)]
            found.append(prepared.backend.rankings(models, "rankings"))
            if partitions == 24 and rule.max_users > 12:
                shared = prepared.backend.ranking.shared  # type: ignore[attr-defined]
                assert shared, "a user whose ratings are in all blocks is ranked, too"
    for models_found in found:
        for one, first in zip(models_found, found[0], strict=True):
            assert set(one) == {"validation", "test"}
            for split in one:
                np.testing.assert_allclose(
                    values_of(one[split]), values_of(first[split]), rtol=1e-9
                )
    users = [means.users for means in found[0][0].values()]
    assert all(n == 12 if rule.max_users == 12 else n > 15 for n in users)
    assert 0 < found[0][0]["test"].ndcg < 1


@pytest.mark.slow
def test_they_are_those_of_the_evaluators(spark: SparkSession) -> None:
    """Of pyspark's evaluator, and of :func:`evaluate_models` for users with training ratings."""
    source = source_from_frame(frame_of(spark))
    ready = replace(EXACT, placement="grid")
    with prepare_ratings(spark, source, ready) as prepared:
        factors = factors_of(prepared)
        (found,) = prepared.backend.rankings([factors], "")
        backend: Any = prepared.backend
        summary, stats = prepared.summary, prepared.stats
        users, items = summary.users.ids.to_numpy(), summary.items.ids.to_numpy()
        train = [array.copy() for array in backend.blocks["user"].triples()]
    degrees = {side: stats[side].degrees for side in ("user", "item")}
    with prepare_ratings(spark, source, replace(ready, cold_start="initial")) as prepared:
        parts: Any = prepared.backend
        (held,) = (p.block.triples() for p in parts.evaluation if p.split == "test")
    known = degrees["user"][held[0]] > 0
    assert not known.all(), "some users have no training rating"
    assert (degrees["item"][held[1]][known] == 0).any(), "some items have no training rating"

    # pyspark's evaluator, over the best items by the kernel that the jobs recommend with.
    relevant = known & (held[2] >= 4.0)
    trained = np.flatnonzero(degrees["item"])
    rows = []
    for user in np.unique(held[0][relevant]):
        seen = train[1][train[0] == user]
        left_out = Seen(np.array([0, seen.size]), np.searchsorted(trained, seen))
        best = top_items(factors.users[[user]], factors.items[trained], 5, left_out).rows[0]
        wanted = held[1][relevant & (held[0] == user)]
        rows.append(
            ([float(trained[place]) for place in best if place >= 0], wanted.astype(float).tolist())
        )
    lists = spark.createDataFrame(rows, "prediction array<double>, label array<double>").cache()
    means = found["test"]
    assert means.users == len(rows)
    expected = {
        name: RankingEvaluator(metricName=theirs, k=5).evaluate(lists)  # type: ignore[arg-type]
        for name, theirs in RANKING_MEASURES.items()
    }
    lists.unpersist()
    for name, value in expected.items():
        assert getattr(means, name) == pytest.approx(value, rel=1e-12), name

    # The evaluation of stored models.
    model = FactorModel(
        IdIndex(summary.users.ids),
        IdIndex(summary.items.ids),
        factors,
        stats["user"],
        stats["item"],
    )
    triples = zip(
        users[held[0][known]].tolist(),
        items[held[1][known]].tolist(),
        held[2][known].tolist(),
        strict=True,
    )
    held_out = spark.createDataFrame(list(triples), "user int, item int, rating double")
    pairs = zip(users[train[0]].tolist(), items[train[1]].tolist(), strict=True)
    seen_pairs = spark.createDataFrame(list(pairs), "user int, item int")
    options = RankingOptions(5, 4.0, 1000, tuple(RANKING_MEASURES))
    (evaluation,) = evaluate_models(
        spark, held_out, {"model": model}, options, seen=seen_pairs
    ).values()
    assert evaluation.metrics["ranking_users"] == means.users
    for name in (*RANKING_MEASURES, "coverage"):
        assert getattr(means, name) == pytest.approx(evaluation.metrics[name], rel=1e-12), name


def chosen_points(
    spark: SparkSession, judge: Judge, places: Sequence[tuple[str, int | None]]
) -> list[Any]:
    source = source_from_frame(frame_of(spark))
    outcomes = []
    for placement, partitions in places:
        ready = replace(EXACT, placement=placement, partitions=partitions)
        with prepare_ratings(spark, source, ready) as prepared:
            collector = SweepCollector("validation", judge=judge)
            options = TrainingOptions(tol=0.0, max_iter=3, dtype="float64")
            train_grid(prepared, grid_specs([1, 2, 4], [0.1, 5.0]), options, collector)
            outcomes.append(collector.outcome())
    return outcomes


@pytest.mark.parametrize("measure", ["ndcg", pytest.param("recall", marks=pytest.mark.slow)])
def test_the_grid_chooses_by_them_in_both_placements(spark: SparkSession, measure: Any) -> None:
    judge = Judge(measure, 5)
    first, *others = chosen_points(spark, judge, [("grid", None), ("ratings", 4)])
    values = [getattr(point.rankings["validation"], measure) for point in first.points]
    assert values[first.best] == max(values) > min(values)
    for other in others:
        assert other.best == first.best
        for one, wanted in zip(other.points, first.points, strict=True):
            for split in ("validation", "test"):
                np.testing.assert_allclose(
                    values_of(one.rankings[split]), values_of(wanted.rankings[split]), rtol=1e-9
                )


def test_the_default_threshold_is_the_training_mean_and_biases_are_the_same(
    spark: SparkSession,
) -> None:
    found = []
    for placement in ("grid", "ratings"):
        ready = replace(EXACT, placement=placement, ranking=RankingRule(top=3), dtype="float32")
        with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
            degrees = prepared.stats["item"].degrees
            baseline = popularity(len(prepared.summary.users), degrees)
            (means,) = prepared.backend.rankings([baseline], "popular")
            assert means["test"].relevant_from == pytest.approx(prepared.stats["item"].mean, 1e-5)
            biases = fit_biases(prepared.backend, prepared.stats, "biases")
            (sums,) = prepared.backend.errors([biases], "biases")
            errors = [sums[split].means() for split in ("train", "validation", "test")]  # type: ignore[index]
            found.append([*values_of(means["test"]), *(e.rmse for e in errors)])
    # Sums of float32 ratings are those of blocks.
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_parts_without_relevant_ratings_are_left_out(spark: SparkSession) -> None:
    for placement in ("grid", "ratings"):
        rule = replace(RULE, relevant_from=5.5)
        ready = replace(EXACT, placement=placement, ranking=rule)
        with prepare_ratings(spark, source_from_frame(frame_of(spark)), ready) as prepared:
            assert prepared.backend.rankings([factors_of(prepared)], "") == [{}]
