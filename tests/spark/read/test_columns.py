"""Typed columns, and the reason of every bad row."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.columns import source_from_frame, typed_ratings
from als_spark.spark.read.sources import SourceOptions, read_source

NAN, INF = math.nan, math.inf
REST = "rating double, timestamp double, problem string, raw string, changed string"


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
        [(1, "x", 4.5, 100.0, None, None, None), (2, "y", 10.0, 1e9, None, None, None)],
        f"user bigint, item string, {REST}",
    )
    found = typed(frame, timestamp=True)
    assert_df_equality(found, wanted, ignore_nullable=True, ignore_row_order=True)


def test_timestamps_are_not_read_where_they_are_not_needed(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(1, 2, 3.0, "rubbish")], "user int, item int, rating double, timestamp string"
    )
    wanted = spark.createDataFrame(
        [(1, 2, 3.0, None, None, None, None)],
        f"user bigint, item bigint, {REST}",
    )
    assert_df_equality(typed(frame), wanted, ignore_nullable=True)


@pytest.mark.spark35
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
        *["rating is missing"] * 2,
        *["rating is not a number"] * 4,
        "rating is missing: a null word",
        *["rating is infinite"] * 3,
        "timestamp is missing",
        "timestamp is unreadable",
        "timestamp is missing: a null word",
        *["timestamp is unreadable"] * 2,
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
        (1.0, 1, 1e300, 1.0),
        (1.0, 1, -1e30, 1.0),
        (-0.0, -(2**63), -1e18, -1e18),
    ]
    frame = spark.createDataFrame(rows, "user double, item bigint, rating double, timestamp double")
    assert problems(frame, timestamp=True) == [
        "user is missing",
        "user is not a whole number",
        *["user is too large to be an exact number"] * 2,
        "user is missing",
        "item is missing",
        "rating is missing",
        "rating is NaN",
        *["rating is infinite"] * 2,
        "timestamp is missing",
        *["timestamp is unreadable"] * 3,
        *["rating is beyond ±1e+18"] * 2,
        None,
    ]


@pytest.mark.parametrize("kind", ["float", "double", "tinyint", "decimal(4,0)", "decimal(30,0)"])
def test_ids_of_every_type_of_number(kind: str, spark: SparkSession) -> None:
    frame = spark.sql(f"select cast(7 as {kind}) user, cast(-3 as {kind}) item, 1 rating")
    ids = "string" if kind == "decimal(30,0)" else "bigint"
    wanted = spark.sql(f"select cast(7 as {ids}) user, cast(-3 as {ids}) item")
    assert_df_equality(typed(frame).select("user", "item"), wanted, ignore_nullable=True)


def test_decimals_are_ids_if_they_are_whole(spark: SparkSession) -> None:
    frame = spark.sql(
        "select cast(v as decimal(10,2)) user, cast(v as decimal(38,3)) item, 1 rating "
        "from values ('7.00'), ('-3'), ('7.01'), ('0.10') as t(v)"
    )
    rows = typed(frame.coalesce(1)).collect()
    assert [(row.user, row["item"]) for row in rows[:2]] == [(7, "7"), (-3, "-3")]
    assert [row.problem for row in rows] == [None, None, *["user is not a whole number"] * 2]
    assert {row.changed for row in rows} == {None}


def test_text_that_is_a_number_or_nothing(spark: SparkSession) -> None:
    """What becomes of an id, and what is told of it; the words of a frame are its own."""
    wanted: dict[str, tuple[str | None, str | None, str | None]] = {
        "15.0": ("15", None, "user 15.0"),
        " 15. ": ("15", None, "user 15."),
        "-15.00": ("-15", None, "user -15.00"),
        "9007199254740991.0": ("9007199254740991", None, "user 9007199254740991.0"),
        "9007199254740992.0": (None, "user is too large to be an exact number", None),
        "-12345678901234567000.0": (None, "user is too large to be an exact number", None),
        "1.23457E+12": (None, "user is in scientific notation, which may have lost digits", None),
        "1e+16": (None, "user is in scientific notation, which may have lost digits", None),
        "1.5E12": (None, "user is in scientific notation, which may have lost digits", None),
        "-": (None, "user is missing: a null word", None),
        **{
            text: (text, None, None)
            for text in ("NULL", "15.5", "1.000", "007.0", "007", "+7", "12e5", "1.0.0", "a+b", "")
            if text
        },
    }
    frame = spark.createDataFrame([(text,) for text in wanted], "user string").coalesce(1)
    frame = frame.selectExpr("user", "1 item", "2 rating")
    rows = typed_ratings(source_from_frame(frame, null_words=["-"]), need_timestamp=False).collect()
    found = {
        text: (row.user if row.problem is None else None, row.problem, row.changed)
        for text, row in zip(wanted, rows, strict=True)
    }
    shown = {
        text: (value, problem, None if problem else changed)
        for text, (value, problem, changed) in found.items()
    }
    assert shown == wanted


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
        ("int", 999_999_999, 999_999_999.0),
        ("bigint", 1_000_000_000_123, 1e9 + 0.123),
        ("string", "1000000000123456", 1e9 + 0.123456),
        ("double", 1e18, 1e9),
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


@pytest.mark.spark35
def test_times_of_a_day_and_numbers_of_java_are_no_timestamps(spark: SparkSession) -> None:
    words = ["10:30:00", "T10:30", "100d", "0x1p3", "05/04/2009", "today"]
    frame = spark.createDataFrame(
        [(1, 2, 3, word) for word in words], "user int, item int, rating int, timestamp string"
    )
    assert problems(frame, timestamp=True) == ["timestamp is unreadable"] * len(words)


def test_timestamps_without_a_time_zone_are_of_the_session(spark: SparkSession) -> None:
    frame = spark.sql(
        "select 1 user, 2 item, 3 rating, timestamp_ntz'1970-01-02 00:00:01' timestamp"
    )
    assert typed(frame, timestamp=True).head().timestamp == 86_401.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("true user, 1 item, 1 rating", "the user column 'user' is of type boolean: whole numbers"),
        ("1 user, array(1) item, 1 rating", r"the item column 'item' is of type array<int>: whole"),
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
    message = r'no timestamp column: name it with `columns\["timestamp"\]`'
    with pytest.raises(DataError, match=message):
        typed_ratings(source_from_frame(frame), need_timestamp=True)


def test_the_file_of_a_bad_row_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("user,item,rating,note\n1,2,3,x\n1,3,,y\n")
    source = read_source(spark, SourceOptions(path=str(tmp_path)))
    frame = typed_ratings(source, need_timestamp=False).where("problem is not null")
    assert [row.raw for row in frame.collect()] == [
        "user=1, item=3, rating=null, in a%20b.csv",
    ]
