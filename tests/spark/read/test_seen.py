"""Pairs that are not recommended: what counts as one, and which are taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.seen import SeenPairs, read_seen, without_pairs
from als_spark.spark.read.sources import SourceOptions, read_source


def read(spark: SparkSession, path: Path, **columns: str) -> SeenPairs:
    options = SourceOptions(str(path), columns=columns, need_rating=False, format_option=False)
    return read_seen(spark, read_source(spark, options))


def pairs(frame: DataFrame) -> list[tuple[str, str]]:
    return sorted((str(row.user), str(row["item"])) for row in frame.collect())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("unreadable.csv", "user,item,rating\n1,a,x\n2,b,\n3,c,NaN\n"),
        ("none.csv", "item;user\na;1\nb;2\nc;3\n"),
        ("bare.csv", "1,a\n2,b\n3,c\n"),
        ("colons.dat", "1::a\n2::b\n3::c\n"),
        ("other.csv", "user,item,when\n1,a,today\n2,b,\n3,c,never\n"),
        ("lines.json", '{"user":1,"item":"a"}\n{"user":2,"item":"b"}\n{"user":3,"item":"c"}\n'),
    ],
)
def test_ratings_are_not_needed(spark: SparkSession, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    # A column of another file's ratings is none of this one's business.
    seen = read(spark, tmp_path / name, rating="stars", timestamp="moment")
    assert pairs(seen.pairs) == [("1", "a"), ("2", "b"), ("3", "c")]
    assert (seen.n_pairs, seen.n_bad, seen.problems) == (3, 0, [])


def test_rows_without_two_ids_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("user,item,rating\n1,a,3\n,b,4\n2, ,4\n,,1\n2,b,x\n")
    seen = read(spark, tmp_path / "s.csv")
    assert pairs(seen.pairs) == [("1", "a"), ("2", "b")]
    assert (seen.n_pairs, seen.n_bad) == (2, 3)
    assert seen.problems == [
        "user is missing (2, such as user=null, item=b, in s.csv)",
        "item is missing (1, such as user=2, item=null, in s.csv)",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.csv", "user,item\n,b\n,c\n", r"no usable pairs .*: user is missing \(2, such as"),
        ("bare.csv", "user,item\n", r"no usable pairs of a user and an item: it is empty: check"),
        ("one.csv", "user\n1\n", r"the first line 'user' has one field: a user and an item are"),
        ("odd.csv", "who,what\na,b\n", r"no user column among who, what: name it with --user-col"),
        ("a.parquet", "rubbish", r"cannot be read: .*: check the path and the file$"),
    ],
)
def test_refused(spark: SparkSession, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as info:
        read(spark, tmp_path / name)
    assert "\n" not in str(info.value)


def test_pairs_are_compared_as_text(spark: SparkSession) -> None:
    seen = spark.createDataFrame([(1, "a"), (1, "b"), (2, "a")], "user bigint, item string")
    held = spark.createDataFrame([("1", "b"), ("9", "a"), ("1", "b")], "user string, item string")
    assert pairs(without_pairs(seen, held)) == [("1", "a"), ("2", "a")]
