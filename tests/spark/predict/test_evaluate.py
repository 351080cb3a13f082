"""Measures of models on held-out ratings, against brute force."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.model.calibration import Calibrator
from als_spark.model.factor_model import FactorModel
from als_spark.spark.predict.evaluate import (
    BIN_EDGES,
    BIN_LABELS,
    RANKING_MEASURES,
    Evaluation,
    RankingOptions,
    bin_of,
    evaluate_models,
)
from als_spark.train.backend import Factors
from als_spark.train.baseline import bias_factors
from als_spark.types import SIDES
from tests.conftest import random_model

TOP = 4


MODELS = {
    "challenger": random_model(40, 30, 3, seed=1),
    "champion": random_model(35, 28, 2, seed=2),
}


def pool(side: str) -> list[int]:
    """Ids that one model, the other, both or none of them knows."""
    known = {key for model in MODELS.values() for key in model.side(side).ids.ids.to_pylist()}  # type: ignore[arg-type]
    return [*sorted(known), 9001, 9002]


def held_out(n: int = 700, seed: int = 3) -> list[tuple[int, int, float]]:
    """Distinct pairs of ids."""
    rng = np.random.default_rng(seed)
    users, items = pool("user"), pool("item")
    places = rng.integers(0, [len(users), len(items)], (n, 2))
    pairs = sorted({(users[u], items[i]) for u, i in places})
    return [(u, i, float(rng.integers(1, 11)) / 2) for u, i in pairs]


def frame(spark: SparkSession, rows: list[Any], kind: str = "int") -> DataFrame:
    return spark.createDataFrame(rows, f"user {kind}, item {kind}, rating double").repartition(3)


def degree(model: FactorModel, side: str, key: Any) -> int:
    ids, _, stats = model.side(side)  # type: ignore[arg-type]
    row = int(ids.rows_of([key])[0])
    return 0 if row < 0 else int(stats.degrees[row])


def mean_errors(model: FactorModel, rows: list[Any]) -> tuple[float, float]:
    predicted = model.predict([r[0] for r in rows], [r[1] for r in rows])
    errors = np.array([r[2] for r in rows]) - predicted
    return float(np.mean(errors**2)), float(np.mean(np.abs(errors)))


def recommended(
    model: FactorModel, user: Any, seen: set[tuple[Any, Any]], *, popular: bool = False
) -> list[Any]:
    """The first items of a user: by the product of factors, or by popularity for strangers."""
    items = [key for key in model.items.ids.to_pylist() if degree(model, "item", key)]
    items = [key for key in items if (user, key) not in seen]
    if degree(model, "user", user) and not popular:
        scores = model.predict([user] * len(items), items)
        return [items[k] for k in np.argsort(-scores, kind="stable")][:TOP]
    return sorted(items, key=lambda key: (-degree(model, "item", key), key))[:TOP]


def textbook(
    model: FactorModel,
    rows: list[Any],
    seen: set[tuple[Any, Any]],
    threshold: float,
    known: bool | None = None,
    *,
    popular: bool = False,
) -> dict[str, float]:
    """The ranking measures, formula by formula; of users with training ratings, or without."""
    relevant: dict[Any, set[Any]] = {}
    for user, item, rating in rows:
        if rating >= threshold and known in (None, degree(model, "user", user) > 0):
            relevant.setdefault(user, set()).add(item)
    sums = dict.fromkeys(("ndcg", "recall", "precision", "map"), 0.0)
    anybody: set[Any] = set()
    for user, wanted in relevant.items():
        found = recommended(model, user, seen, popular=popular)
        anybody |= set(found)
        hits = [item in wanted for item in found]
        gain = sum(1 / math.log2(k + 2) for k, hit in enumerate(hits) if hit)
        ideal = sum(1 / math.log2(k + 2) for k in range(min(len(wanted), TOP)))
        sums["ndcg"] += gain / ideal
        sums["recall"] += sum(hits) / len(wanted)
        sums["precision"] += sum(hits) / TOP
        precisions = [sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit]
        sums["map"] += sum(precisions) / min(len(wanted), TOP)
    n_items = int(np.count_nonzero(model.item_stats.degrees))
    means = {name: total / len(relevant) for name, total in sums.items()}
    return {**means, "coverage": len(anybody) / n_items}


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[str, Evaluation]:
    seen = spark.createDataFrame(sorted(SEEN), "user int, item int")
    options = RankingOptions(TOP, 3.5, measures=tuple(RANKING_MEASURES))
    rows = frame(spark, held_out())
    calibrator = Calibrator(0.5, 5.0)
    return evaluate_models(
        *(spark, rows, MODELS, options), seen=seen, baselines=True, calibrator=calibrator
    )


SEEN = {(u, i) for u in pool("user")[::2] for i in pool("item")[::3]}


@pytest.mark.parametrize("name", ["challenger", "champion"])
class TestAgainstBruteForce:
    @pytest.mark.spark35
    def test_errors(self, name: str, found: dict[str, Evaluation]) -> None:
        mse, mae = mean_errors(MODELS[name], held_out())
        metrics = found[name].metrics
        assert metrics["mse"] == pytest.approx(mse, rel=1e-12)
        assert metrics["mae"] == pytest.approx(mae, rel=1e-12)
        assert metrics["rmse"] == pytest.approx(math.sqrt(mse), rel=1e-12)
        assert metrics["count"] == len(held_out())
        cold = [
            row
            for row in held_out()
            if not (degree(MODELS[name], "user", row[0]) and degree(MODELS[name], "item", row[1]))
        ]
        assert metrics["cold"] == len(cold) > 0

    @pytest.mark.parametrize(("side", "at"), [("user", 0), ("item", 1)])
    def test_bins_are_by_the_training_ratings_of_the_first_model(
        self,
        name: str,
        side: str,
        at: int,
        found: dict[str, Evaluation],
    ) -> None:
        bins = getattr(found[name], f"by_{side}")
        assert [entry["label"] for entry in bins] == list(BIN_LABELS)
        places = [
            int(bin_of(np.array([degree(MODELS["challenger"], side, row[at])]))[0])
            for row in held_out()
        ]
        for k, entry in enumerate(bins):
            rows = [row for row, place in zip(held_out(), places, strict=True) if place == k]
            assert entry["count"] == len(rows)
            if rows:
                mse, mae = mean_errors(MODELS[name], rows)
                assert entry["mse"] == pytest.approx(mse, rel=1e-12)
                assert entry["mae"] == pytest.approx(mae, rel=1e-12)
            else:
                assert entry["mse"] is None
                assert entry["mae"] is None

    def test_rankings(self, name: str, found: dict[str, Evaluation]) -> None:
        wanted = textbook(MODELS[name], held_out(), SEEN, 3.5)
        for measure, value in wanted.items():
            assert found[name].metrics[measure] == pytest.approx(value, rel=1e-9), measure
        assert wanted["ndcg"] > 0
        users = {user for user, _, rating in held_out() if rating >= 3.5}
        assert found[name].metrics["ranking_users"] == len(users)
        assert (found[name].metrics["k"], found[name].metrics["relevant_from"]) == (TOP, 3.5)


def check_split(
    found: Mapping[str, Mapping[str, Any]], model: FactorModel, *, popular: bool = False
) -> None:
    """Compare the measures by source with the textbook's, of known users and of the others."""
    assert list(found) == ["model", "popular"]
    for source, known in (("model", True), ("popular", False)):
        wanted = textbook(model, held_out(), SEEN, 3.5, known, popular=popular)
        del wanted["coverage"]
        own = dict(found[source])
        users = {
            u for u, _, r in held_out() if r >= 3.5 and known == (degree(model, "user", u) > 0)
        }
        assert own.pop("users") == len(users) > 0
        assert own == pytest.approx(wanted, rel=1e-9)


def test_rankings_by_what_users_are_answered_from(found: dict[str, Evaluation]) -> None:
    for name, model in MODELS.items():
        check_split(found[name].by_source, model)


def test_calibration_is_of_the_first_model(found: dict[str, Evaluation]) -> None:
    rows, model = held_out(), MODELS["challenger"]
    users, items, ratings = map(np.array, zip(*rows, strict=True))
    predicted = model.predict(users, items, "nan")
    known = ~np.isnan(predicted)
    tenths = found["challenger"].calibration["by_prediction"]
    assert sum(part["count"] for part in tenths) == known.sum() > 0
    for name, values in (("predicted", predicted), ("observed", ratings)):
        total = sum(part["count"] * part[name] for part in tenths)
        assert total == pytest.approx(values[known].sum(), rel=1e-9)
    means = [part["predicted"] for part in tenths]
    assert means == sorted(means)
    assert found["challenger"].calibration["intervals"] == []
    assert found["champion"].calibration == {}


def test_the_baselines_stand_beside_the_first_model(found: dict[str, Evaluation]) -> None:
    model, rows = MODELS["challenger"], held_out()
    popular = dict(found["challenger"].baselines["popular"])
    check_split(popular.pop("by_source"), model, popular=True)
    wanted = textbook(model, rows, SEEN, 3.5, popular=True)
    assert popular == pytest.approx(wanted, rel=1e-9)
    mean = model.user_stats.mean
    biases_of = (bias_factors(model.side(side).stats, side, mean) for side in SIDES)
    mse, mae = mean_errors(replace(model, factors=Factors(*biases_of)), rows)
    biases = found["challenger"].baselines["biases"]
    assert biases == pytest.approx({"mse": mse, "mae": mae, "rmse": math.sqrt(mse)}, rel=1e-12)
    assert mse < found["challenger"].metrics["mse"]
    assert found["champion"].baselines == {}


@pytest.mark.slow
def test_the_mean_is_the_usual_threshold(spark: SparkSession) -> None:
    rows = held_out(60)
    mean = float(np.mean([row[2] for row in rows]))
    model = {"model": MODELS["champion"]}
    (one,) = evaluate_models(spark, frame(spark, rows), model, RankingOptions(TOP)).values()
    assert one.metrics["relevant_from"] == pytest.approx(mean, rel=1e-12)
    wanted = textbook(MODELS["champion"], rows, set(), mean)
    assert one.metrics["ndcg"] == pytest.approx(wanted["ndcg"], rel=1e-9)
    # The ids as text, as a CSV file has them, and in other partitions.
    texts = frame(spark, [(str(u), str(i), r) for u, i, r in rows], "string").coalesce(1)
    (two,) = evaluate_models(spark, texts, model, RankingOptions(TOP)).values()
    for measure, value in one.metrics.items():
        assert two.metrics[measure] == pytest.approx(value, rel=1e-12), measure


def test_users_of_another_kind_are_strangers(spark: SparkSession) -> None:
    """Text among a model's integers: they get the popular items but for what they have seen."""
    model, own = MODELS["champion"], held_out(80)
    strangers = ["abc", "007", "1.0", str(2**70)]
    rows = [*own, *((user, item, 4.5) for user in strangers for item in pool("item")[:6])]
    seen = {("abc", recommended(model, "abc", set())[0]), *((u, i) for u, i, _ in own[::3])}
    texts = frame(spark, [(str(u), str(i), rating) for u, i, rating in rows], "string")
    pairs = [(str(user), str(item)) for user, item in seen]
    (found,) = evaluate_models(
        spark,
        texts,
        {"model": model},
        RankingOptions(TOP, 3.5, measures=tuple(RANKING_MEASURES)),
        seen=spark.createDataFrame(pairs, "user string, item string"),
    ).values()
    for measure, value in textbook(model, rows, seen, 3.5).items():
        assert found.metrics[measure] == pytest.approx(value, rel=1e-9), measure
    assert found.metrics["cold"] >= 6 * len(strangers)


@pytest.mark.parametrize(
    "options",
    [RankingOptions(TOP, 99.0), RankingOptions(TOP, max_users=0)],
    ids=["nothing is relevant", "not asked for"],
)
def test_no_rankings(spark: SparkSession, options: RankingOptions) -> None:
    model = {"model": MODELS["champion"]}
    (one,) = evaluate_models(spark, frame(spark, held_out(60)), model, options).values()
    assert [one.metrics[name] for name in ("ndcg", "recall", "coverage")] == [None] * 3
    assert one.metrics["ranking_users"] == 0
    assert one.metrics["rmse"] is not None


def test_few_of_many_users(spark: SparkSession) -> None:
    model = {"model": MODELS["champion"]}
    options = RankingOptions(TOP, 0.0, max_users=12)
    counts = [
        evaluate_models(spark, frame(spark, held_out()).repartition(n), model, options)[
            "model"
        ].metrics["ranking_users"]
        for n in (1, 4)
    ]
    assert counts[0] == counts[1]
    assert 4 <= counts[0] <= 24


def test_bins() -> None:
    degrees = np.array([0, 1, 4, 5, 19, 20, 99, 100, 499, 500, 10**6])
    assert bin_of(degrees).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(BIN_EDGES) == len(BIN_LABELS)
