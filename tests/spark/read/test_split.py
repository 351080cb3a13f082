"""The parts of the ratings: at random, by time, given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame, typed_ratings
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.spark.read.split import (
    TEST,
    TRAIN,
    VALIDATION,
    SplitOptions,
    split_ratings,
    with_fixed_split,
)
from tests.times import time_split_twin, times_of

NAN, INF = math.nan, math.inf


def typed(frame: DataFrame, *, timestamp: bool = False) -> DataFrame:
    source = source_from_frame(frame, timestamp="timestamp" if timestamp else None)
    return typed_ratings(source, need_timestamp=timestamp)


def pairs(spark: SparkSession, n: int, user: Column | None = None) -> DataFrame:
    """Typed ratings of n different pairs."""
    frame = spark.range(n).select(
        (F.col("id") % 997).alias("user"),
        F.floor(F.col("id") / 997).alias("item"),
        (F.col("id") % 5).alias("rating"),
    )
    return typed(frame if user is None else frame.withColumn("user", user))


def sides(ratings: DataFrame, options: SplitOptions) -> DataFrame:
    """The split of each pair, ids as text."""
    split = split_ratings(ratings, options)
    return split.select(F.col("user").cast("string"), F.col("item").cast("string"), "split")


@pytest.mark.slow
def test_a_pair_lands_on_the_same_side_however_it_comes(
    spark: SparkSession, tmp_path: Path
) -> None:
    options = SplitOptions(seed=5, test_fraction=0.3, validation_fraction=0.2)
    plain = spark.range(2000).selectExpr("id % 40 user", "id div 40 item", "id % 5 rating")
    wanted = sides(typed(plain), options).cache()
    try:
        assert wanted.groupBy("split").count().count() == 3
        plain.repartition(3).write.option("header", True).csv(str(tmp_path / "csv"))
        plain.orderBy(F.rand(1)).repartition(5).write.parquet(str(tmp_path / "parquet"))
        plain.coalesce(1).write.json(str(tmp_path / "json"))
        others = [
            typed(plain.orderBy(F.desc("item"), F.desc("rating"))),
            typed(plain.repartition(7, "user")),
            typed(plain.withColumn("user", F.col("user").cast("double"))),
            typed(plain.withColumn("item", F.col("item").cast("decimal(30,0)"))),
            typed(plain.withColumn("item", F.col("item").cast("string"))),
            typed(plain.withColumn("rating", F.lit(1))),
            *(
                typed_ratings(
                    read_source(spark, SourceOptions(path=str(tmp_path / kind))),
                    need_timestamp=False,
                )
                for kind in ("csv", "parquet", "json")
            ),
        ]
        everything = sides(others[0], options)
        for other in others[1:]:
            everything = everything.union(sides(other, options))
        # Every pair is there as often as it came, and always on its own side.
        counted = everything.groupBy("user", "item", "split").count()
        as_often = wanted.withColumn("count", F.lit(len(others)).cast("bigint"))
        assert_df_equality(counted, as_often, ignore_nullable=True, ignore_row_order=True)
    finally:
        wanted.unpersist()


@pytest.mark.parametrize(
    ("test", "validation"), [(0.2, 0.0), (0.1, 0.3), (0.0, 0.25), (0.5, 0.499)]
)
def test_shares_are_about_what_was_asked(
    test: float, validation: float, spark: SparkSession
) -> None:
    n = 40_000
    options = SplitOptions(seed=1, test_fraction=test, validation_fraction=validation)
    rows = sides(pairs(spark, n), options).groupBy("split").count().collect()
    found = {row.split: row["count"] / n for row in rows}
    for code, share in ((TEST, test), (VALIDATION, validation), (TRAIN, 1 - test - validation)):
        # Five standard deviations of a share of n coin tosses.
        assert found.get(code, 0.0) == pytest.approx(
            share, abs=5 * math.sqrt(share * (1 - share) / n) + 1e-12
        )


def test_the_share_holds_for_every_user_and_item_alike(spark: SparkSession) -> None:
    """Ids that count up, pair and reversed pair: what a weak hash would show patterns in."""
    frame = spark.range(10_000).selectExpr("id % 100 user", "id div 100 item", "1 rating")
    split = split_ratings(typed(frame), SplitOptions(seed=0, test_fraction=0.5))
    table = np.zeros((100, 100))
    for row in split.select("user", "item", "split").collect():
        table[row.user, row.item] = row.split == TEST
    for axis in (0, 1):
        # Means of 100 tosses have a standard deviation of 0.05.
        assert np.abs(table.mean(axis) - 0.5).max() < 0.22
        assert np.std(table.mean(axis)) == pytest.approx(0.05, abs=0.015)
    upper = np.triu_indices(100, 1)
    assert np.mean(table[upper] == table.T[upper]) == pytest.approx(0.5, abs=0.04)


def test_another_seed_is_another_split(spark: SparkSession) -> None:
    ratings = pairs(spark, 10_000)
    one = split_ratings(ratings, SplitOptions(seed=1, test_fraction=0.5))
    two = split_ratings(ratings, SplitOptions(seed=2, test_fraction=0.5))
    rows = one.join(two.withColumnRenamed("split", "other"), ["user", "item"])
    same = rows.where("split = other").count() / 10_000
    assert same == pytest.approx(0.5, abs=0.025)


def test_a_validation_part_leaves_the_test_part_as_it_is(spark: SparkSession) -> None:
    ratings = pairs(spark, 2_000)
    without = sides(ratings, SplitOptions(seed=3, test_fraction=0.3))
    having = sides(ratings, SplitOptions(seed=3, test_fraction=0.3, validation_fraction=0.3))
    is_test = f"split = {TEST}"
    assert_df_equality(
        without.where(is_test), having.where(is_test), ignore_nullable=True, ignore_row_order=True
    )


def test_a_fixed_split(spark: SparkSession) -> None:
    split = with_fixed_split(pairs(spark, 3), TEST)
    assert [row.split for row in split.collect()] == [TEST] * 3
    assert split.schema["split"].dataType.simpleString() == "tinyint"


# ------------------------------------------------------------------ the time split


@pytest.fixture(scope="module", params=["years", "one day", "ties", "before 1970"])
def whole_times(
    request: pytest.FixtureRequest, spark: SparkSession
) -> Iterator[tuple[np.ndarray[Any, Any], DataFrame]]:
    times = times_of(request.param)
    frame = time_frame(spark, times).repartition(3).cache()
    yield times, frame
    frame.unpersist()


def time_frame(spark: SparkSession, times: Sequence[float] | np.ndarray[Any, Any]) -> DataFrame:
    """Ratings of user k at the k-th time."""
    rows = [(k, 1, 2.0, float(time)) for k, time in enumerate(times)]
    return spark.createDataFrame(rows, "user bigint, item int, rating double, timestamp double")


def codes_by_time(frame: DataFrame, test: str, validation: str) -> list[int]:
    options = SplitOptions("time", 0, float(test), float(validation))
    split = split_ratings(typed(frame, timestamp=True), options)
    assert split.schema["split"].dataType.simpleString() == "tinyint"
    return [row.split for row in split.orderBy("user").select("split").collect()]


@pytest.mark.parametrize(
    ("test", "validation"),
    [
        pytest.param("0.2", "0", marks=pytest.mark.slow),
        ("0.1", "0.2"),
        pytest.param("0", "0.3", marks=pytest.mark.slow),
        pytest.param("0.999", "0", marks=pytest.mark.slow),
    ],
)
def test_time_split_against_its_twin(
    test: str,
    validation: str,
    whole_times: tuple[np.ndarray[Any, Any], DataFrame],
) -> None:
    times, frame = whole_times
    assert codes_by_time(frame, test, validation) == time_split_twin(times, test, validation)


@pytest.mark.parametrize("kind", ["parts of seconds", "milliseconds", "one moment"])
def test_time_split_of_unusual_times(kind: str, spark: SparkSession) -> None:
    times = times_of(kind)
    found = codes_by_time(time_frame(spark, times), "0.15", "0.15")
    assert found == time_split_twin(times, "0.15", "0.15")


def test_time_split_of_a_hundred_different_times_is_exact(spark: SparkSession) -> None:
    """0.1 + 0.2 and 1 − 0.3 are not what they seem, and must not move a rating."""
    codes = codes_by_time(time_frame(spark, range(100)), "0.1", "0.2")
    assert codes == [TRAIN] * 70 + [VALIDATION] * 20 + [TEST] * 10


def test_time_split_does_not_count_bad_rows(spark: SparkSession) -> None:
    good = time_frame(spark, range(10))
    bad = spark.createDataFrame(
        [(k, 1, NAN, float(k)) for k in range(10, 60)] + [(60, 1, 2.0, INF), (61, 1, 2.0, None)],
        good.schema,
    )
    codes = codes_by_time(good.union(bad), "0.2", "0")
    assert codes[:10] == [TRAIN] * 8 + [TEST] * 2


def test_time_split_of_nothing(spark: SparkSession) -> None:
    assert codes_by_time(time_frame(spark, []), "0.2", "0.1") == []


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_time_split_beside_given_test_ratings(placement: Any, spark: SparkSession) -> None:
    columns = ("id % 5 user", "id item", "double(id) rating")
    ratings = spark.range(10).selectExpr(*columns, "double(id) timestamp")
    source = source_from_frame(ratings, timestamp="timestamp")
    test = source_from_frame(spark.range(10, 13).selectExpr(*columns))
    options = PrepareOptions(
        SplitOptions("time", test_fraction=0.0, validation_fraction=0.2), placement=placement
    )
    with prepare_ratings(spark, source, options, test_source=test) as prepared:
        assert prepared.n_ratings == {"train": 8, "validation": 2, "test": 3}
