"""What MLlib's model does not offer: exclusion, candidates, similar rows, folding in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException, SparkRuntimeException
from pyspark.sql import DataFrame, SparkSession
from scipy.optimize import nnls

from als_spark import ALS, ALSModel, SolveError
from als_spark.ml import predict
from als_spark.ml.factors import SideFactors
from tests.spark.ml.ratings import Ratings, factors_of, some_ratings

REG = 0.2
Factors = dict[int, list[float]]


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return some_ratings(11)


@pytest.fixture(scope="module")
def model(frame: DataFrame) -> ALSModel:
    return ALS(rank=3, maxIter=2, regParam=REG, seed=2).fit(frame)


@pytest.fixture(scope="module")
def users(model: ALSModel) -> Factors:
    return factors_of(model.userFactors)


@pytest.fixture(scope="module")
def items(model: ALSModel) -> Factors:
    return factors_of(model.itemFactors)


def check_best(
    found: DataFrame,
    asked: Factors,
    candidates: Factors,
    top: int,
    seen: set[tuple[int, int]],
    names: tuple[str, str] = ("user", "item"),
) -> None:
    """Compare with all scores, sorted."""
    rows = {row[names[0]]: row.recommendations for row in found.collect()}
    assert rows.keys() == asked.keys()
    for one, own in asked.items():
        scores = {
            other: float(np.dot(own, row))
            for other, row in candidates.items()
            if (one, other) not in seen
        }
        best = sorted(scores, key=lambda other: -scores[other])[:top]
        assert [entry[names[1]] for entry in rows[one]] == best
        wanted = [scores[other] for other in best]
        assert [entry.rating for entry in rows[one]] == pytest.approx(wanted, rel=1e-5)


class TestRecommend:
    def test_without_what_was_rated(
        self, model: ALSModel, frame: DataFrame, ratings: Ratings, users: Factors, items: Factors
    ) -> None:
        seen = {*zip(ratings.users.tolist(), ratings.items.tolist(), strict=True)}
        # More than are left for some.
        found = model.recommendForAllUsers(15, excludeSeen=frame)
        assert found.schema == model.recommendForAllUsers(15).schema
        check_best(found, users, items, 15, seen)
        turned = {(item, user) for user, item in seen}
        found = model.recommendForAllItems(4, excludeSeen=frame)
        check_best(found, items, users, 4, turned, ("item", "user"))

    def test_a_user_who_has_rated_all(
        self, spark: SparkSession, model: ALSModel, items: Factors
    ) -> None:
        user = next(iter(factors_of(model.userFactors)))
        pairs = [(user, item) for item in items] + [(None, 1), (user, None), (10**6, 10**7)]
        seen = spark.createDataFrame(pairs, "user int, item int")
        found = model.recommendForAllUsers(3, excludeSeen=seen).collect()
        sizes = {row.user: len(row.recommendations) for row in found}
        assert sizes.pop(user) == 0
        assert {*sizes.values()} == {3}

    def test_subsets_of_candidates(
        self,
        spark: SparkSession,
        model: ALSModel,
        frame: DataFrame,
        ratings: Ratings,
        users: Factors,
        items: Factors,
    ) -> None:
        seen = {*zip(ratings.users.tolist(), ratings.items.tolist(), strict=True)}
        some = [*sorted(items)[3:11], 999]
        candidates = spark.createDataFrame([(i,) for i in [*some, *some]], "item bigint")
        asked = {user: users[user] for user in sorted(users)[::4]}
        subset = spark.createDataFrame([(u,) for u in [*asked, *asked, 998]], "user int")
        allowed = {item: items[item] for item in some[:-1]}
        found = model.recommendForUserSubset(subset, 5, excludeSeen=frame, items=candidates)
        check_best(found, asked, allowed, 5, seen)
        check_best(model.recommendForAllUsers(50, items=candidates), users, allowed, 50, set())
        chosen = spark.createDataFrame([(u,) for u in asked], "user int")
        found = model.recommendForItemSubset(candidates, 2, users=chosen)
        check_best(found, allowed, asked, 2, set(), ("item", "user"))

    def test_no_candidate(self, spark: SparkSession, model: ALSModel, users: Factors) -> None:
        none = spark.createDataFrame([(998,)], "item int")
        found = model.recommendForAllUsers(2, items=none).collect()
        assert [row.recommendations for row in found] == [[]] * len(users)

    def test_missing_columns(self, model: ALSModel, frame: DataFrame) -> None:
        with pytest.raises(IllegalArgumentException, match="item does not exist"):
            model.recommendForAllUsers(2, excludeSeen=frame.select("user"))
        with pytest.raises(IllegalArgumentException, match="user does not exist"):
            model.recommendForAllItems(2, users=frame.select("item"))


class TestSimilar:
    @pytest.mark.parametrize("measure", ["cosine", "inner"])
    def test_items(self, model: ALSModel, items: Factors, measure: Any) -> None:
        ids = [*sorted(items)[2:6], 999]
        found = {row.item: row.neighbours for row in model.similarItems(ids, 4, measure).collect()}
        assert found.keys() == {*ids[:-1]}
        for item, entries in found.items():
            own = np.array(items[item])
            scores = {key: float(own @ row) for key, row in items.items() if key != item}
            if measure == "cosine":
                lengths = {key: float(np.linalg.norm(row)) for key, row in items.items()}
                scores = {k: s / lengths[k] / lengths[item] for k, s in scores.items()}
            best = sorted(scores, key=lambda key: -scores[key])[:4]
            assert [entry.item for entry in entries] == best
            assert [e.score for e in entries] == pytest.approx([scores[k] for k in best], rel=1e-6)

    def test_all_users(self, model: ALSModel, users: Factors) -> None:
        found = model.similarUsers(None, 50).collect()
        assert {row.user for row in found} == users.keys()
        for row in found:
            assert {entry.user for entry in row.neighbours} == users.keys() - {row.user}

    def test_what_is_refused(self, model: ALSModel) -> None:
        with pytest.raises(IllegalArgumentException, match="measure 'euclid': use 'cosine'"):
            model.similarItems([1], 2, "euclid")  # type: ignore[arg-type]
        with pytest.raises(IllegalArgumentException, match="item ids of another kind"):
            model.similarItems(["a"], 2)
        for single in ("73", b"73"):
            with pytest.raises(
                IllegalArgumentException, match=r"^item ids b?'73': use a list of ids, such"
            ):
                model.similarItems(single, 2)  # type: ignore[arg-type]
        with pytest.raises(IllegalArgumentException, match="0 recommendations wanted"):
            model.similarUsers([1], 0)


class TestFoldIn:
    def test_users_and_their_recommendations(
        self, spark: SparkSession, model: ALSModel, users: Factors, items: Factors
    ) -> None:
        known = sorted(items)
        old = min(users)
        rows = [(5001, i, float(1 + k % 5)) for k, i in enumerate(known[:9])]
        # A pair twice, an unknown item, somebody with nothing else, and a user who is known.
        rows += [(5001, known[0], 4.5), (5002, known[3], 2.0), (5002, 999, 5.0), (5003, 999, 1.0)]
        rows += [(old, known[1], 3.0)]
        new = spark.createDataFrame(rows, "user int, item int, rating double")
        folded = model.foldIn(new)
        found = factors_of(folded.userFactors)
        assert found.keys() == users.keys() | {5001, 5002}
        kept = [row for row in rows if row[1] != 999]
        by_hand = Ratings(*(np.array(column) for column in zip(*kept, strict=True)))
        used = {i: items[i] for i in {*by_hand.items.tolist()}}
        start = {u: [0.0] * 3 for u in {*by_hand.users.tolist()}}
        for user, wanted in by_hand.users_against(start, used, REG).items():
            assert found[user] == pytest.approx(wanted, abs=1e-5)
        assert {u: f for u, f in found.items() if u not in start} == {
            u: f for u, f in users.items() if u != old
        }
        check_best(folded.recommendForAllUsers(3), found, items, 3, set())
        (row,) = folded.transform(new.where("user = 5002 and item < 999")).collect()
        assert row.prediction == pytest.approx(np.dot(found[5002], items[known[3]]), rel=1e-5)
        assert 5001 not in factors_of(model.userFactors)
        stats = folded.toFactorModel()
        (place,) = stats.users.rows_of([5001]).tolist()
        assert (stats.user_stats.degrees[place], stats.user_stats.sums[place]) == (
            10,
            sum(r for u, _, r in rows if u == 5001),
        )

    def test_items_however_they_lie(
        self, spark: SparkSession, model: ALSModel, users: Factors
    ) -> None:
        rows = [(u, 7000 + k % 3, float(k % 4)) for k, u in enumerate(sorted(users))]
        new = spark.createDataFrame(rows, "user int, item int, r double")
        fold = partial(model.foldIn, side="item", ratingCol="r")
        found = factors_of(fold(new).itemFactors)
        assert found.keys() >= {7000, 7001, 7002}
        assert factors_of(fold(new.repartition(5)).itemFactors) == found
        by_hand = Ratings(*(np.array(column) for column in zip(*rows, strict=True))).turned()
        start = {i: [0.0] * 3 for i in (7000, 7001, 7002)}
        for item, wanted in by_hand.users_against(start, users, REG).items():
            assert found[item] == pytest.approx(wanted, abs=1e-5)

    @pytest.mark.parametrize(
        "kind",
        [
            "both",
            "biases",
            *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("implicit", "nonnegative")),
        ],
    )
    def test_every_objective(self, spark: SparkSession, frame: DataFrame, kind: str) -> None:
        """A new user's row against its own system, solved by other means."""
        reg, alpha = 0.3, 3.0
        params: dict[str, Any] = {"regParam": reg, "biases": kind == "biases"}
        params |= {"nonnegative": kind in ("nonnegative", "both")}
        if implicit := kind in ("implicit", "both"):
            params |= {"implicitPrefs": True, "alpha": alpha}
        model = ALS(rank=3, maxIter=2, seed=1, **params).fit(frame)
        items = factors_of(model.itemFactors)
        rated = sorted(items)[:6]
        values = np.array([5.0, 1.0, 4.0, 0.0, 2.0, 3.0])
        rows = [(9001, i, r) for i, r in zip(rated, values.tolist(), strict=True)]
        new = spark.createDataFrame(rows, "user int, item int, rating double")
        folded = model.foldIn(new)
        found = np.array(factors_of(folded.userFactors)[9001])
        v, n = np.array([items[i] for i in rated]), len(rated)
        weights, targets, gram = np.ones(n), values, np.zeros((3, 3))
        if implicit:
            # Hu, Koren, Volinsky: all items with the weight 1, those rated with 1 + α r.
            every = np.array([*items.values()])
            gram, n = every.T @ every, int((values > 0).sum())
            weights, targets = alpha * values, (values > 0) * (1 + alpha * values)
            rhs = v.T @ targets
        elif kind == "biases":
            # One more unknown, the user's own bias, beside the latent factors.
            own = {row.id: row.bias for row in model.itemBiases.collect()}
            targets = values - model.globalMean - np.array([own[i] for i in rated])
            v = np.column_stack([v, np.ones(n)])
            gram, rhs = np.zeros((4, 4)), v.T @ targets
        else:
            rhs = v.T @ targets
        system = gram + v.T @ (weights[:, None] * v) + reg * n * np.eye(v.shape[1])
        if params["nonnegative"]:
            lower = np.linalg.cholesky(system)
            wanted = nnls(lower.T, np.linalg.solve(lower, rhs))[0]
        else:
            wanted = np.linalg.solve(system, rhs)
        if kind == "biases":
            bias = {row.id: row.bias for row in folded.userBiases.collect()}[9001]
            found = np.append(found, bias)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)

    def test_text_and_decimals(self, spark: SparkSession, frame: DataFrame) -> None:
        native = frame.selectExpr(
            "concat('u', user) user", "cast(item as decimal(12,9)) item", "rating"
        )
        model = ALS(rank=2, maxIter=1, seed=0, nativeIds=True).fit(native)
        items = factors_of(model.itemFactors)
        rows = [("new", item, 3.0) for item in items]
        new = spark.createDataFrame(rows, "user string, item decimal(12,9), rating double")
        found = factors_of(model.foldIn(new).userFactors)["new"]  # type: ignore[index]
        fixed = np.array([*items.values()])
        system = fixed.T @ fixed + 0.1 * len(items) * np.eye(2)
        assert found == pytest.approx(np.linalg.solve(system, fixed.sum(0) * 3.0), abs=1e-5)
        wide = new.selectExpr("user", "cast(item as decimal(20,2)) item", "rating")
        with pytest.raises(IllegalArgumentException, match=r"of type decimal\(12,9\), but was"):
            model.foldIn(wide)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ((None, 1, 2.0), "user Ids MUST NOT be Null, but got null"),
            ((1, 1, float("nan")), "Ratings MUST NOT be Null or NaN, but got NaN"),
        ],
    )
    def test_unusable_rows(
        self, spark: SparkSession, model: ALSModel, row: tuple[Any, ...], message: str
    ) -> None:
        new = spark.createDataFrame([(1, 1, 1.0), row], "user int, item int, rating double")
        with pytest.raises(SparkRuntimeException, match=message):
            model.foldIn(new)

    def test_what_is_refused(self, spark: SparkSession, model: ALSModel, frame: DataFrame) -> None:
        with pytest.raises(IllegalArgumentException, match="side 'both': use 'user' or 'item'"):
            model.foldIn(frame, "both")  # type: ignore[arg-type]
        sides = model._factors.sides
        bare = model._copyValues(ALSModel(spark, sides["user"], sides["item"]))
        with pytest.raises(IllegalArgumentException, match="does not know its objective"):
            bare.foldIn(frame)

    def test_no_solution(self, spark: SparkSession, frame: DataFrame) -> None:
        dense = spark.createDataFrame(
            [(u, i, float((3 * u + 5 * i) % 7)) for u in range(6) for i in range(5)],
            "user int, item int, rating double",
        )
        model = ALS(rank=2, maxIter=1, regParam=0.0, seed=0).fit(dense)
        new = spark.createDataFrame([(77, 1, 3.0)], "user int, item int, rating double")
        with pytest.raises(SolveError, match="user 77 has no finite solution"):
            model.foldIn(new)


@pytest.mark.parametrize("strategy", ["nan", "drop"])
def test_arrow_and_joins_predict_the_same(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    rng = np.random.default_rng(4)
    sides = [
        SideFactors.of(np.arange(n), rng.normal(size=(n, 20)).astype(np.float32)) for n in (40, 30)
    ]
    model = ALSModel(spark, *sides).setUserCol("user").setItemCol("item")
    model.setPredictionCol("p").setColdStartStrategy(strategy)
    frame = spark.range(2000).selectExpr(
        "cast(id % 43 as int) user",
        "cast(id % 33 as double) item",
        "cast(id as string) text",
        "date_add(date'2020-01-01', cast(id as int)) day",
        "timestamp_micros(id * 1000003) moment",
        "cast(id as decimal(20,3)) exact",
        "if(id % 7 = 0, null, id) maybe",
        "cast(cast(id as string) as binary) bytes",
        "id % 2 = 0 flag",
    )
    monkeypatch.setattr(predict, "DOT_ROWS", 300)
    arrow = model.transform(frame)
    assert "MapInArrow" in _plan(arrow)
    monkeypatch.setattr(predict, "BROADCAST_BYTES", 100)
    joins = model.transform(frame)
    assert "Join" in _plan(joins)
    assert arrow.schema == joins.schema
    key: Callable[[Any], Any] = lambda row: row.exact  # noqa: E731
    found, wanted = (sorted(each.collect(), key=key) for each in (arrow, joins))
    assert len(found) == (2000 if strategy == "nan" else len(wanted)) > 1500
    exact = sides[0].factors[::-1].astype(float) @ sides[1].factors[::-1].astype(float).T
    for one, other in zip(found, wanted, strict=True):
        assert one[:-1] == other[:-1]
        np.testing.assert_allclose(one.p, other.p, rtol=1e-6)
        known = one.user < 40 and one.item < 30
        np.testing.assert_allclose(one.p, exact[one.user, one.item] if known else np.nan, rtol=1e-6)


def _plan(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().optimizedPlan().toString())
