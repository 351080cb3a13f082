"""``nativeIds``: integers, strings and decimals stay what they are, in all that a model returns."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException, SparkRuntimeException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from als_spark import ALS, ALSModel
from tests.spark.ml.ratings import Ratings, factors_of, some_ratings

TYPES = "user string, item decimal(22,2), rating double"
REG = 0.2


def user_of(number: int) -> str:
    """Text that is no number in its usual form, of more than the letters of one byte."""
    return f"0{number}é" if number % 2 else f"{number}"


def item_of(number: int) -> Decimal:
    return Decimal(number * 10**17) + Decimal("0.25")


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return some_ratings(7)


@pytest.fixture(scope="module")
def frame(spark: SparkSession, ratings: Ratings) -> DataFrame:
    rows = [
        (user_of(u), item_of(i), r)
        for u, i, r in zip(*(values.tolist() for values in ratings), strict=True)
    ]
    return spark.createDataFrame(rows, TYPES).repartition(3).cache()


@pytest.fixture(scope="module")
def model(frame: DataFrame) -> ALSModel:
    return ALS(rank=3, maxIter=2, regParam=REG, seed=5, nativeIds=True).fit(frame)


def field_type(schema: StructType, name: str) -> str:
    return schema[name].dataType.simpleString()


class TestModel:
    def test_factors_solve_the_equations(self, model: ALSModel, ratings: Ratings) -> None:
        assert field_type(model.userFactors.schema, "id") == "string"
        assert field_type(model.itemFactors.schema, "id") == "decimal(22,2)"
        users, items = factors_of(model.userFactors), factors_of(model.itemFactors)
        numbers = {user_of(u): u for u in ratings.users.tolist()}
        by_number = {numbers[key]: row for key, row in users.items()}  # type: ignore[index]
        own = {i: items[item_of(i)] for i in ratings.items.tolist()}  # type: ignore[index]
        wanted = ratings.turned().users_against(own, by_number, REG)
        assert wanted.keys() == own.keys()
        for key, row in wanted.items():
            assert own[key] == pytest.approx(row, abs=1e-4)

    def test_predictions(self, spark: SparkSession, model: ALSModel, frame: DataFrame) -> None:
        users, items = factors_of(model.userFactors), factors_of(model.itemFactors)
        found = model.transform(frame.distinct())
        assert found.schema["user"].dataType == frame.schema["user"].dataType
        assert found.schema["item"].dataType == frame.schema["item"].dataType
        for row in found.collect():
            wanted = sum(a * b for a, b in zip(users[row.user], items[row.item], strict=True))
            assert row.prediction == pytest.approx(wanted, rel=1e-5)
        # Numbers of another type are the same ids, unless they are none.
        known = item_of(int(some_ratings(7).items[0]))
        rows = [("nobody", known), (user_of(6), known), (user_of(6), known + Decimal("0.001"))]
        wider = spark.createDataFrame(rows, "user string, item decimal(30,3)")
        scores = [row.prediction == row.prediction for row in model.transform(wider).collect()]
        assert scores == [False, True, False]

    def test_recommendations(self, spark: SparkSession, model: ALSModel, frame: DataFrame) -> None:
        found = model.recommendForAllUsers(4)
        entry = "array<struct<item:decimal(22,2),rating:float>>"
        assert field_type(found.schema, "recommendations") == entry
        users, items = factors_of(model.userFactors), factors_of(model.itemFactors)
        rows = found.collect()
        assert {row.user for row in rows} == users.keys()
        for row in rows:
            scores = {
                item: sum(a * b for a, b in zip(users[row.user], own, strict=True))
                for item, own in items.items()
            }
            best = sorted(scores.values(), reverse=True)[:4]
            assert [e.rating for e in row.recommendations] == pytest.approx(best, rel=1e-5)
            for e in row.recommendations:
                assert scores[e.item] == pytest.approx(e.rating, rel=1e-5)
        asked = spark.createDataFrame([(user_of(6),), ("nobody",), (None,)], "user string")
        (row,) = model.recommendForUserSubset(asked, 1).collect()
        assert row.user == user_of(6)

    @pytest.mark.slow
    def test_files(self, model: ALSModel, frame: DataFrame, tmp_path: Path) -> None:
        model.save(str(tmp_path / "model"))
        loaded = ALSModel.load(str(tmp_path / "model"))
        assert loaded.getNativeIds()
        assert loaded.userFactors.schema == model.userFactors.schema
        assert factors_of(loaded.itemFactors) == factors_of(model.itemFactors)
        for saved in (model, ALS(nativeIds=True)):
            with pytest.raises(
                IllegalArgumentException, match="parameter nativeIds is True, which MLlib's ALS"
            ):
                saved.write().format("mllib").save(str(tmp_path / "mllib"))
        assert not (tmp_path / "mllib").exists()

    def test_the_librarys(self, spark: SparkSession, model: ALSModel) -> None:
        library = model.toFactorModel()
        assert library.predict([user_of(6)], ["no item"], "nan").shape == (1,)
        back = ALSModel.fromFactorModel(spark, library)
        assert field_type(back.itemFactors.schema, "id") == "string"
        wanted = {str(key): row for key, row in factors_of(model.itemFactors).items()}
        assert factors_of(back.itemFactors) == wanted


class TestTypes:
    def test_ties_fall_by_code_point(self, spark: SparkSession) -> None:
        items = ["a", "Z", "é", "z", "10", "9", "𝄞"]
        frame = spark.createDataFrame(
            [("u", i, 3.0) for i in items], "user string, item string, rating float"
        )
        model = ALS(rank=1, maxIter=1, nativeIds=True, seed=0).fit(frame)
        (row,) = model.recommendForAllUsers(10).collect()
        assert [e.item for e in row.recommendations] == sorted(items, reverse=True)

    @pytest.mark.parametrize(
        "kind", ["bigint", pytest.param("smallint", marks=pytest.mark.slow), "decimal(9,0)"]
    )
    def test_whole_numbers(self, spark: SparkSession, kind: str) -> None:
        big = 2**40 if kind == "bigint" else 300
        frame = spark.range(3).select(
            (F.col("id") + big).cast(kind).alias("user"),
            (F.col("id") * 2).cast(kind).alias("item"),
            F.lit(2.0).alias("rating"),
        )
        model = ALS(rank=1, maxIter=1, nativeIds=True, seed=0, coldStartStrategy="drop").fit(frame)
        assert field_type(model.userFactors.schema, "id") == kind
        assert {*factors_of(model.userFactors)} == {big, big + 1, big + 2}
        found = model.transform(frame.withColumn("user", F.col("user").cast("bigint")))
        assert field_type(found.schema, "user") == "bigint"
        assert found.count() == 3

    @pytest.mark.parametrize("kind", ["double", "boolean", "date"])
    def test_what_is_no_id(self, spark: SparkSession, kind: str) -> None:
        frame = spark.createDataFrame([], f"user {kind}, item int, rating float")
        with pytest.raises(IllegalArgumentException, match=f"was actually of type {kind}"):
            ALS(nativeIds=True).fit(frame)

    def test_text_for_numbers(self, spark: SparkSession, model: ALSModel) -> None:
        frame = spark.createDataFrame([(1, "x")], "user int, item string")
        asks: list[Any] = [model.transform, lambda f: model.recommendForUserSubset(f, 2)]
        for ask in asks:
            with pytest.raises(IllegalArgumentException, match="which are of type string, but was"):
                ask(frame)

    def test_null(self, spark: SparkSession, model: ALSModel) -> None:
        rows = [("x", Decimal(1), 2.0), (None, Decimal(1), 2.0)]
        frame = spark.createDataFrame(rows, TYPES)
        with pytest.raises(SparkRuntimeException, match="user Ids MUST NOT be Null"):
            ALS(nativeIds=True).fit(frame)
        with pytest.raises((SparkRuntimeException, Py4JJavaError), match="Ids MUST NOT be Null"):
            model.transform(frame).collect()
