"""The estimator: its objective, beside MLlib's and by hand; what it takes and what it refuses."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException, SparkRuntimeException
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, ALSModel, ConfigError, DataError, PrepareOptions, SolveError
from als_spark.ml import training
from tests import reference
from tests.spark.ml.ratings import Ratings, factors_of, some_ratings

REG = 0.2
NAN, INF = math.nan, math.inf
FAILED = "requirement failed: "
NUMERIC = "must be of type numeric but was actually of type"


def als(**params: Any) -> ALS:
    return ALS(**{"rank": 3, "maxIter": 3, "regParam": REG, "seed": 5, **params})


def sides(model: Any) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    return factors_of(model.userFactors), factors_of(model.itemFactors)


def assert_close(found: dict[int, Any], wanted: dict[int, Any], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        np.testing.assert_allclose(found[key], row, rtol=0, atol=tolerance)


class TestObjective:
    @pytest.mark.slow
    def test_mllib_solves_the_equations_of_the_reference(
        self, frame: DataFrame, ratings: Ratings
    ) -> None:
        # The test of the reference: λ n, and each rating of a repeated pair.
        model = mllib.ALS(rank=3, maxIter=2, regParam=REG, seed=5).fit(frame)
        users, items = sides(model)
        assert_close(users, ratings.users_against(users, items, REG), 1e-5)

    @pytest.mark.slow
    def test_iterations_from_the_start(self, frame: DataFrame, ratings: Ratings) -> None:
        users, items = sides(als(maxIter=0).fit(frame))
        for _ in range(3):
            users = ratings.users_against(users, items, REG)  # type: ignore[assignment]
            items = ratings.turned().users_against(items, users, REG)  # type: ignore[assignment]
        found_users, found_items = sides(als().fit(frame))
        assert_close(found_users, users, 2e-4)
        assert_close(found_items, items, 2e-4)

    def test_partitioned_ratings(self, frame: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = sides(als().fit(frame))
        options = partial(PrepareOptions, placement="ratings", partitions=3)
        monkeypatch.setattr(training, "PrepareOptions", options)
        for found, expected in zip(sides(als().fit(frame)), wanted, strict=True):
            assert_close(found, expected, 1e-4)

    def test_as_good_as_mllib_and_of_its_schema(self, frame: DataFrame) -> None:
        evaluator = RegressionEvaluator(labelCol="rating")
        ours, theirs = (
            cls(rank=3, maxIter=4, regParam=0.05, seed=1).fit(frame) for cls in (ALS, mllib.ALS)
        )
        error, wanted = (evaluator.evaluate(model.transform(frame)) for model in (ours, theirs))
        assert error < 1.1 * wanted
        assert ours.userFactors.schema == theirs.userFactors.schema
        assert ours.itemFactors.schema == theirs.itemFactors.schema

    def test_the_seed_alone_decides_the_start(self, frame: DataFrame) -> None:
        first = sides(als().fit(frame))
        assert sides(als().fit(frame.repartition(2))) == first
        other = sides(als(seed=-6).fit(frame))
        assert other != first

    def test_a_user_of_zeros_has_zeros(self, spark: SparkSession) -> None:
        rows = [(1, 1, 0.0), (1, 2, 0.0), (2, 1, 3.0), (2, 2, 4.0)]
        model = als().fit(spark.createDataFrame(rows, "user int, item int, rating double"))
        assert factors_of(model.userFactors)[1] == [0.0, 0.0, 0.0]

    def test_exponent_of_the_ridge(self, frame: DataFrame, ratings: Ratings) -> None:
        users, items = sides(als(regExponent=0.5).fit(frame))
        assert_close(items, ratings.turned().users_against(items, users, REG, exponent=0.5), 1e-4)

    def test_a_tolerance_ends_the_iterations(self, frame: DataFrame) -> None:
        # c_1 is known from one iteration alone, so a huge tolerance ends the second.
        huge = sides(als(tol=1e9, maxIter=10).fit(frame))
        assert huge == sides(als(maxIter=2).fit(frame))
        none = sides(als(tol=0.0, maxIter=10).fit(frame))
        assert none == sides(als(maxIter=10).fit(frame))
        assert none != huge

    @pytest.mark.parametrize(("placement", "n_jobs"), [("grid", 5), ("ratings", 26)])
    def test_jobs_of_a_fit(
        self,
        spark: SparkSession,
        frame: DataFrame,
        monkeypatch: pytest.MonkeyPatch,
        placement: str,
        n_jobs: int,
    ) -> None:
        # 10 iterations of two half-steps each, or the one task of the model; no errors.
        options = partial(PrepareOptions, placement=placement)
        monkeypatch.setattr(training, "PrepareOptions", options)
        scheduler = spark.sparkContext._jsc.sc().dagScheduler()
        before = scheduler.numTotalJobs()
        als(maxIter=10).fit(frame)
        assert scheduler.numTotalJobs() - before <= n_jobs


def objective_of(
    model: Any, ratings: Ratings, reg: float, implicit: bool, alpha: float = 1.0
) -> float:
    """What MLlib minimises, from a model of either."""
    found = sides(model)
    ids = ratings.users, ratings.items
    (users, items), factors = zip(
        *(
            (
                np.searchsorted(sorted(side), wanted),
                np.array([side[k] for k in sorted(side)], np.float64),
            )
            for side, wanted in zip(found, ids, strict=True)
        ),
        strict=True,
    )
    if implicit:
        return reference.implicit_objective(
            users, items, ratings.ratings, *factors, reg, 1.0, alpha
        )
    return reference.objective(users, items, ratings.ratings, *factors, reg, 1.0)


@pytest.fixture(scope="module")
def mixed() -> Ratings:
    """Each pair once; ratings of 0 and below, and a user and an item that have no other."""
    some = some_ratings()
    _, once = np.unique(np.stack(some[:2]), axis=1, return_index=True)
    users, items, ratings = (array[once] for array in some)
    ratings = ratings - 1.5
    ratings[users == users.max()] = -1.0
    ratings[items == items.max()] = 0.0
    return Ratings(users, items, ratings)


@pytest.fixture(scope="module")
def frame_of_mixed(spark: SparkSession, mixed: Ratings) -> DataFrame:
    return mixed.frame(spark).cache()


class TestOtherObjectives:
    """Implicit feedback and nonnegative factors, beside MLlib's."""

    @pytest.mark.parametrize(
        "params",
        [
            {"implicitPrefs": True, "alpha": 3.0},
            pytest.param({"implicitPrefs": True, "alpha": 0.0}, marks=pytest.mark.slow),
            pytest.param({"nonnegative": True}, marks=pytest.mark.slow),
            {"implicitPrefs": True, "alpha": 3.0, "nonnegative": True},
        ],
        ids=str,
    )
    def test_as_low_as_mllib(
        self, frame_of_mixed: DataFrame, mixed: Ratings, params: dict[str, Any]
    ) -> None:
        ours, theirs = (
            cls(rank=3, maxIter=4, regParam=0.05, seed=1, **params).fit(frame_of_mixed)
            for cls in (ALS, mllib.ALS)
        )
        implicit = params.get("implicitPrefs", False)
        more = mixed, 0.05, implicit, params.get("alpha", 1.0)
        assert objective_of(ours, *more) <= 1.005 * objective_of(theirs, *more)
        found, wanted = sides(ours), sides(theirs)
        for own, other, ids in zip(found, wanted, mixed[:2], strict=True):
            assert own.keys() == other.keys()
            if implicit:
                # No rating above 0.
                assert own[ids.max()] == other[ids.max()] == [0.0, 0.0, 0.0]
            lowest = min(min(row) for row in own.values())
            assert (lowest == 0) == params.get("nonnegative", False)

    def test_mllib_solves_the_equations_of_the_reference(self, frame: DataFrame) -> None:
        # The test of the reference, with repeated pairs, whose ratings count each.
        ratings = some_ratings()
        model = mllib.ALS(
            rank=3, maxIter=2, regParam=REG, seed=5, implicitPrefs=True, alpha=2.0
        ).fit(frame)
        users, items = sides(model)
        assert_close(users, self.preferences(ratings, users, items), 1e-5)

    def test_iterations_from_the_start(self, frame: DataFrame, ratings: Ratings) -> None:
        implicit = {"implicitPrefs": True, "alpha": 2.0}
        users, items = sides(als(maxIter=0, **implicit).fit(frame))
        assert min(min(row) for row in users.values()) >= 0
        for _ in range(3):
            users = self.preferences(ratings, users, items)
            items = self.preferences(ratings.turned(), items, users)
        found_users, found_items = sides(als(**implicit).fit(frame))
        assert_close(found_users, users, 2e-4)
        assert_close(found_items, items, 2e-4)

    @pytest.mark.slow
    def test_a_grid_over_alpha_is_trained_at_once(
        self, frame: DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        prepare = training.prepare_typed
        monkeypatch.setattr(
            training, "prepare_typed", lambda *a, **k: calls.append(k) or prepare(*a, **k)
        )
        estimator = als(implicitPrefs=True)
        maps = [
            {estimator.alpha: 0.5},
            {estimator.alpha: 20.0},
            {estimator.nonnegative: True},
            {estimator.implicitPrefs: False},
        ]
        models = [model for _, model in sorted(estimator.fitMultiple(frame, maps))]
        assert len(calls) == 1
        for params, model in zip(maps, models, strict=True):
            for found, wanted in zip(
                sides(model), sides(estimator.fit(frame, params)), strict=True
            ):
                assert_close(found, wanted, 1e-5)
        assert sides(models[0]) != sides(models[1])

    @staticmethod
    def preferences(
        ratings: Ratings, users: dict[int, Any], items: dict[int, Any]
    ) -> dict[int, Any]:
        (user_ids, user_rows), (item_ids, item_rows) = (
            np.unique(ids, return_inverse=True) for ids in ratings[:2]
        )
        fixed = np.array([items[i] for i in item_ids.tolist()], np.float64)
        start = np.array([users[u] for u in user_ids.tolist()], np.float64)
        solved = reference.implicit_rows(
            user_rows, item_rows, ratings.ratings, fixed, start, REG, 1.0, 2.0
        )
        return dict(zip(user_ids.tolist(), solved, strict=True))


class TestRatings:
    @pytest.mark.slow
    @pytest.mark.spark35
    def test_numeric_types_of_ids_and_ratings(self, spark: SparkSession, ratings: Ratings) -> None:
        wanted = sides(als().fit(ratings.frame(spark)))
        users, items, values = (array.tolist() for array in ratings)
        typed = spark.createDataFrame(
            [
                (Decimal(u), float(i), Decimal(str(v)))
                for u, i, v in zip(users, items, values, strict=True)
            ],
            "`the user` decimal(20,0), `an.item` double, r decimal(4,2)",
        )
        model = als(userCol="the user", itemCol="an.item", ratingCol="r").fit(typed)
        assert sides(model) == wanted
        assert (model.getUserCol(), model.getItemCol()) == ("the user", "an.item")

    def test_without_a_column_every_rating_is_one(self, frame: DataFrame, ratings: Ratings) -> None:
        users, items = sides(als(ratingCol="").fit(frame))
        ones = Ratings(ratings.items, ratings.users, np.ones(250))
        assert_close(items, ones.users_against(items, users, REG), 1e-4)

    def test_one_user_and_one_item(self, spark: SparkSession) -> None:
        model = als().fit(
            spark.createDataFrame([(2**31 - 1, -(2**31), 3.0)], "user int, item int, rating float")
        )
        assert {*factors_of(model.userFactors)} == {2**31 - 1}
        assert {*factors_of(model.itemFactors)} == {-(2**31)}

    @pytest.mark.spark35
    @pytest.mark.parametrize(
        ("user", "item", "rating", "row", "message"),
        [
            ("double", "int", "float", (3.5, 1, 2.0), "for column user, but got 3.5 "),
            ("int", "bigint", "float", (1, 2**31, 2.0), "column item, but got 2147483648 "),
            ("double", "int", "float", (NAN, 1, 2.0), "column user, but got NaN "),
            ("int", "int", "float", (1, None, 2.0), "item Ids MUST NOT be Null"),
            ("int", "int", "float", (1, 1, None), "Ratings MUST NOT be Null or NaN"),
            ("int", "int", "float", (1, 1, NAN), "Ratings MUST NOT be Null or NaN"),
            ("int", "int", "double", (1, 1, -INF), "MUST NOT be Infinity, but got -Infinity "),
            ("int", "int", "double", (1, 1, 1e300), "32-bit floats, but got 1.0E300 "),
        ],
    )
    def test_unusable_rows(
        self,
        spark: SparkSession,
        user: str,
        item: str,
        rating: str,
        row: tuple[Any, ...],
        message: str,
    ) -> None:
        one = float(1) if user == "double" else 1
        rows = [(one, 1, 2.0), row, (one, 2, 3.0), row]
        bad = spark.createDataFrame(rows, f"user {user}, item {item}, rating {rating}")
        with pytest.raises(SparkRuntimeException) as caught:
            als().fit(bad)
        assert isinstance(caught.value, DataError)
        assert message in str(caught.value)
        assert str(caught.value).endswith("(2 such rows: mend the data, or filter them out)")

    @pytest.mark.parametrize(
        ("types", "message"),
        [
            ("user string, item int, rating float", f"{FAILED}Column user {NUMERIC} string."),
            ("user int, item boolean, rating float", f"{FAILED}Column item {NUMERIC} boolean."),
            ("user int, item int, rating string", f"{FAILED}Column rating {NUMERIC} string."),
            ("user int, item int, r float", "rating does not exist. Available: user, item, r"),
            (
                "user int, item int, rating float",
                f"{FAILED}No ratings available from the DataFrame.",
            ),
        ],
    )
    def test_unusable_frames(self, spark: SparkSession, types: str, message: str) -> None:
        with pytest.raises(IllegalArgumentException) as caught:
            als().fit(spark.createDataFrame([], types))
        assert isinstance(caught.value, ConfigError)
        assert str(caught.value) == message

    def test_too_few_ratings_without_a_ridge(self, spark: SparkSession) -> None:
        rows = spark.createDataFrame([(1, 1, 2.0), (2, 1, 3.0)], "user int, item int, rating float")
        with pytest.raises(SolveError, match=r"user \d has no finite solution .* larger lambda"):
            als(regParam=0.0).fit(rows)


class TestParamMaps:
    def test_of_fit(self, frame: DataFrame) -> None:
        estimator = als()
        model = estimator.fit(frame, {estimator.rank: np.int32(2), estimator.predictionCol: "p"})
        assert (model.rank, model.uid, model.getPredictionCol()) == (2, estimator.uid, "p")
        assert estimator.getRank() == 3

    def test_an_estimator_survives_what_it_refuses(self, frame: DataFrame) -> None:
        estimator = als()
        with pytest.raises(TypeError, match='param "rank"'):
            estimator.fit(frame, {estimator.rank: "3"})
        with pytest.raises(IllegalArgumentException, match="parameter rank given invalid value 0"):
            estimator.fit(frame, {estimator.rank: 0})
        with pytest.raises(IllegalArgumentException, match="parameter maxIter given invalid value"):
            estimator.fit(frame, [{estimator.rank: 2}, {estimator.maxIter: -1}])
        assert estimator.fit(frame).rank == 3

    def test_a_grid_is_trained_at_once(
        self, frame: DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepared = []
        prepare = training.prepare_typed

        def count(*args: Any, **options: Any) -> Any:
            prepared.append(options)
            return prepare(*args, **options)

        monkeypatch.setattr(training, "prepare_typed", count)
        estimator = als()
        maps = [
            {estimator.rank: 2, estimator.regParam: 0.5},
            {estimator.rank: 4, estimator.predictionCol: "p"},
            {estimator.maxIter: 1},
            {estimator.maxIter: 0, estimator.seed: 9},
            {estimator.tol: 0.5, estimator.maxIter: 50, estimator.regExponent: 0.0},
            {estimator.accelerate: True, estimator.maxIter: 5},
            {},
        ]
        models = estimator.fit(frame, maps)
        assert len(prepared) == 1
        assert [model.rank for model in models] == [2, 4, 3, 3, 3, 3, 3]
        assert [model.getPredictionCol() for model in models][1:3] == ["p", "prediction"]
        assert len({str(sides(model)) for model in models}) == len(models)
        for params, model in zip(maps, models, strict=True):
            for found, wanted in zip(
                sides(model), sides(estimator.fit(frame, params)), strict=True
            ):
                assert_close(found, wanted, 1e-5)

    @pytest.mark.slow
    def test_a_grid_on_partitioned_ratings(
        self, frame: DataFrame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        estimator = als()
        maps = [
            {estimator.maxIter: 0, estimator.seed: 9},
            {estimator.tol: 0.5, estimator.maxIter: 50},
            {estimator.accelerate: True, estimator.maxIter: 5},
            {estimator.maxIter: 1},
        ]
        wanted = [sides(estimator.fit(frame, params)) for params in maps]
        options = partial(PrepareOptions, placement="ratings", partitions=3)
        monkeypatch.setattr(training, "PrepareOptions", options)
        for model, expected in zip(estimator.fit(frame, maps), wanted, strict=True):
            for found, side in zip(sides(model), expected, strict=True):
                assert_close(found, side, 1e-3)

    @pytest.mark.spark35
    def test_threads(self, frame: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        train = training.prepare_typed
        monkeypatch.setattr(
            training, "prepare_typed", lambda *a, **k: calls.append(k) or train(*a, **k)
        )
        estimator = als()
        models = estimator.fitMultiple(frame, [{estimator.rank: k} for k in (1, 2, 3, 4)])
        with ThreadPoolExecutor(4) as pool:
            found = dict(pool.map(lambda _: next(models), range(4)))
        assert [found[k].rank for k in range(4)] == [1, 2, 3, 4]
        assert len(calls) == 1
        with pytest.raises(StopIteration):
            next(models)

    def test_cross_validation(self, frame: DataFrame) -> None:
        estimator = als(coldStartStrategy="drop")
        grid = (
            ParamGridBuilder()
            .addGrid(estimator.rank, [1, 2])
            .addGrid(estimator.regParam, [0.1, 9.0])
            .build()
        )
        validator = CrossValidator(
            estimator=estimator,
            estimatorParamMaps=grid,
            evaluator=RegressionEvaluator(labelCol="rating"),
            numFolds=2,
            seed=3,
            parallelism=2,
        )
        model = validator.fit(frame)
        assert isinstance(model.bestModel, ALSModel)
        best = int(np.argmin(model.avgMetrics))
        assert model.bestModel.rank == grid[best][estimator.rank]
        assert grid[best][estimator.regParam] == 0.1
        assert np.isfinite(model.avgMetrics).all()
