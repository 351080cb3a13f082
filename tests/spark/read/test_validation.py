"""Typed columns, the reason of every bad row, and the two splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.prepare.prepare import prepare_ratings, source_from_frame
from als_spark.spark.prepare.prepared import PrepareOptions
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.spark.read.validation import (
    TEST,
    TRAIN,
    VALIDATION,
    SplitOptions,
    typed_ratings,
    with_fixed_split,
    with_random_split,
    with_time_split,
)

NAN, INF = math.nan, math.inf


def typed(frame: DataFrame, *, timestamp: bool = False) -> DataFrame:
    source = source_from_frame(frame, timestamp="timestamp" if timestamp else None)
    return typed_ratings(source, need_timestamp=timestamp)


def problems(frame: DataFrame, *, timestamp: bool = False) -> list[str | None]:
    """The problem of each row, in order."""
    rows = typed(frame.coalesce(1), timestamp=timestamp).select("problem", "raw").collect()
    assert all((row.problem is None) == (row.raw is None) for row in rows)
    return [row.problem for row in rows]


def test_good_rows_come_typed_and_without_a_problem(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(1, " x ", "4.5", "100"), (2, "y", " 1e1 ", "2001-09-09 01:46:40")],
        "user int, item string, rating string, timestamp string",
    )
    wanted = spark.createDataFrame(
        [(1, "x", 4.5, 100.0, None, None), (2, "y", 10.0, 1e9, None, None)],
        "user bigint, item string, rating double, timestamp double, problem string, raw string",
    )
    found = typed(frame, timestamp=True)
    assert_df_equality(found, wanted, ignore_nullable=True, ignore_row_order=True)


def test_timestamps_are_not_read_where_they_are_not_needed(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(1, 2, 3.0, "rubbish")], "user int, item int, rating double, timestamp string"
    )
    wanted = spark.createDataFrame(
        [(1, 2, 3.0, None, None, None)],
        "user bigint, item bigint, rating double, timestamp double, problem string, raw string",
    )
    assert_df_equality(typed(frame), wanted, ignore_nullable=True)


def test_reasons_of_bad_text(spark: SparkSession) -> None:
    rows: list[tuple[str | None, ...]] = [
        (None, "1", "1", "1"),
        ("", "1", "1", "1"),
        ("   ", "1", "1", "1"),
        ("1", None, "1", "1"),
        ("1", " ", "1", "1"),
        ("1", "1", None, "1"),
        ("1", "1", "", "1"),
        ("1", "1", "four", "1"),
        ("1", "1", "4,5", "1"),
        ("1", "1", "4d", "1"),
        ("1", "1", " 4F ", "1"),
        ("1", "1", "nan", "1"),
        ("1", "1", "-Infinity", "1"),
        ("1", "1", "inf", "1"),
        ("1", "1", "1e999", "1"),
        ("1", "1", "1", None),
        ("1", "1", "1", "soon"),
        ("1", "1", "1", "nan"),
        ("1", "1", "1", "-inf"),
        ("1", "1", "1", "1e300"),
        ("1", "1", "-1.5e-3", "-5"),
    ]
    frame = spark.createDataFrame(rows, "user string, item string, rating string, timestamp string")
    assert problems(frame, timestamp=True) == [
        *["user is missing"] * 3,
        *["item is missing"] * 2,
        "rating is missing",
        *["rating is not a number"] * 5,
        "rating is NaN",
        *["rating is infinite"] * 3,
        "timestamp is missing",
        *["timestamp is unreadable"] * 4,
        None,
    ]


def test_the_first_of_several_reasons_and_the_row_as_read(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(None, "x", "bad", 1), ("7", "x", None, 2), ("7", "x", "3", 3)],
        "user string, item string, rating string, other int",
    )
    raw = typed(frame).select("problem", "raw").where("problem is not null")
    wanted = spark.createDataFrame(
        [
            ("user is missing", "user=null, item=x, rating=bad"),
            ("rating is missing", "user=7, item=x, rating=null"),
        ],
        "problem string, raw string",
    )
    assert_df_equality(raw, wanted, ignore_nullable=True, ignore_row_order=True)


def test_reasons_of_bad_numbers(spark: SparkSession) -> None:
    rows = [
        (NAN, 1, 1.0, 1.0),
        (0.5, 1, 1.0, 1.0),
        (1e300, 1, 1.0, 1.0),
        (-INF, 1, 1.0, 1.0),
        (None, 1, 1.0, 1.0),
        (1.0, None, 1.0, 1.0),
        (1.0, 1, None, 1.0),
        (1.0, 1, NAN, 1.0),
        (1.0, 1, INF, 1.0),
        (1.0, 1, -INF, 1.0),
        (1.0, 1, 1.0, None),
        (1.0, 1, 1.0, NAN),
        (1.0, 1, 1.0, INF),
        (1.0, 1, 1.0, 1e300),
        (-0.0, -(2**63), -1e300, -1e18),
    ]
    frame = spark.createDataFrame(rows, "user double, item bigint, rating double, timestamp double")
    assert problems(frame, timestamp=True) == [
        *["user is not a whole number"] * 2,
        *["user is too large to be an exact number"] * 2,
        "user is missing",
        "item is missing",
        "rating is missing",
        "rating is NaN",
        *["rating is infinite"] * 2,
        "timestamp is missing",
        *["timestamp is unreadable"] * 3,
        None,
    ]


@pytest.mark.parametrize("kind", ["float", "double", "tinyint", "decimal(4,0)", "decimal(30,0)"])
def test_ids_of_every_type_of_number(kind: str, spark: SparkSession) -> None:
    frame = spark.sql(f"select cast(7 as {kind}) user, cast(-3 as {kind}) item, 1 rating")
    ids = "string" if kind == "decimal(30,0)" else "bigint"
    wanted = spark.sql(f"select cast(7 as {ids}) user, cast(-3 as {ids}) item")
    assert_df_equality(typed(frame).select("user", "item"), wanted, ignore_nullable=True)


@pytest.mark.parametrize("kind", ["int", "float", "decimal(3,1)", "varchar(5)", "char(5)"])
def test_ratings_and_ids_of_other_types(kind: str, spark: SparkSession) -> None:
    value = "3" if kind == "int" else "3.5"
    frame = spark.sql(
        f"select 'x' user, cast('y' as char(3)) item, cast('{value}' as {kind}) rating"
    )
    wanted = spark.sql(f"select 'x' user, 'y' item, double({value}) rating")
    found = typed(frame).select("user", "item", "rating")
    assert_df_equality(found, wanted, ignore_nullable=True, ignore_metadata=True)


@pytest.mark.parametrize(
    ("kind", "value", "seconds"),
    [
        ("int", 1_000_000_000, 1e9),
        ("double", 1.25, 1.25),
        ("decimal(20,3)", Decimal("1000000000.125"), 1e9 + 0.125),
        ("timestamp", datetime(2001, 9, 9, 1, 46, 40, 500_000, tzinfo=UTC), 1e9 + 0.5),
        ("date", date(1970, 1, 3), 172_800.0),
        ("string", "1000000000.5", 1e9 + 0.5),
        ("string", "2001-09-09T01:46:40.5Z", 1e9 + 0.5),
        ("string", "2001-09-09 03:46:40+02:00", 1e9),
        ("string", "1970-01-03", 172_800.0),
    ],
    ids=str,
)
def test_timestamps_are_seconds_since_1970(
    kind: str, value: Any, seconds: float, spark: SparkSession
) -> None:
    schema = f"user int, item int, rating int, timestamp {kind}"
    frame = spark.createDataFrame([(1, 2, 3, value)], schema)
    row = typed(frame, timestamp=True).head()
    assert row is not None
    assert (row.problem, row.timestamp) == (None, seconds)


def test_timestamps_without_a_time_zone_are_of_the_session(spark: SparkSession) -> None:
    frame = spark.sql(
        "select 1 user, 2 item, 3 rating, timestamp_ntz'1970-01-02 00:00:01' timestamp"
    )
    assert typed(frame, timestamp=True).head().timestamp == 86_401.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("true user, 1 item, 1 rating", "the user column 'user' is of type boolean: whole numbers"),
        ("1 user, 1.5 item, 1 rating", r"the item column 'item' is of type decimal\(2,1\): whole"),
        ("1 user, 1 item, array(1) rating", "the rating column 'rating' is of type array<int>"),
        ("1 user, 1 item, date'2020-01-01' rating", "the rating column 'rating' is of type date"),
        ("1 user, 1 item, 1 rating, true timestamp", "the timestamp column .* is of type boolean"),
    ],
)
def test_types_that_will_not_do(columns: str, message: str, spark: SparkSession) -> None:
    frame = spark.sql(f"select {columns}")
    with pytest.raises(DataError, match=f"^the DataFrame: {message}"):
        typed(frame, timestamp="timestamp" in columns)


def test_the_frame_has_no_such_column(spark: SparkSession) -> None:
    message = r"^the DataFrame has no rating column 'stars': its columns are id$"
    with pytest.raises(DataError, match=message):
        source_from_frame(spark.range(1), user="id", item="id", rating="stars")


def test_a_source_without_timestamps_has_none_to_split_by(spark: SparkSession) -> None:
    frame = spark.sql("select 1 user, 2 item, 3 rating")
    with pytest.raises(DataError, match="no timestamp column: name it with --timestamp-col"):
        typed_ratings(source_from_frame(frame), need_timestamp=True)


def test_the_file_of_a_bad_row_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("user,item,rating,note\n1,2,3,x\n1,3,,y\n")
    source = read_source(spark, SourceOptions(path=str(tmp_path)))
    frame = typed_ratings(source, need_timestamp=False).where("problem is not null")
    assert [row.raw for row in frame.collect()] == [
        "user=1, item=3, rating=null, in a%20b.csv",
    ]


# ---------------------------------------------------------------------------- the random split


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
    split = with_random_split(ratings, options)
    return split.select(F.col("user").cast("string"), F.col("item").cast("string"), "split")


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
    split = with_random_split(typed(frame), SplitOptions(seed=0, test_fraction=0.5))
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
    one = with_random_split(ratings, SplitOptions(seed=1, test_fraction=0.5))
    two = with_random_split(ratings, SplitOptions(seed=2, test_fraction=0.5))
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


# ------------------------------------------------------------------------------ the time split


def time_split_twin(times: np.ndarray[Any, Any], test: str, validation: str) -> list[int]:
    """The k-th smallest time for k = ⌈n (1 − share)⌉, in exact arithmetic, is the last before."""
    ordered = np.sort(times)

    def last_before(held: Fraction) -> float:
        k = math.ceil(len(times) * (1 - held))
        return float(ordered[k - 1])

    to_validation = last_before(Fraction(test))
    to_train = last_before(Fraction(test) + Fraction(validation))
    codes = np.full(times.size, TRAIN)
    codes[times > to_train] = VALIDATION
    codes[times > to_validation] = TEST
    return [int(code) for code in codes]


def times_of(kind: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    match kind:
        case "years":
            return rng.integers(0, 10**9, 3000).astype(float)
        case "one day":
            return rng.integers(86_400, 2 * 86_400, 997).astype(float)
        case "ties":
            return rng.integers(0, 9, 500).astype(float) * 40_000
        case "before 1970":
            return rng.integers(-(10**7), 10**6, 1000).astype(float)
        case "parts of seconds":
            return rng.integers(0, 3 * 86_400, 1000) + rng.integers(0, 4, 1000) / 4
        case "milliseconds":
            return 1.7e12 + rng.integers(0, 10**11, 1000).astype(float)
        case _:
            return np.full(50, 5.0)


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
    split = with_time_split(typed(frame, timestamp=True), options)
    assert split.schema["split"].dataType.simpleString() == "tinyint"
    return [row.split for row in split.orderBy("user").select("split").collect()]


@pytest.mark.parametrize(
    ("test", "validation"), [("0.2", "0"), ("0.1", "0.2"), ("0", "0.3"), ("0.999", "0")]
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
