"""Pairs that are not recommended: what counts as one, and which are taken back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.seen import KnownIds, SeenPairs, read_seen, without_pairs
from als_spark.spark.read.sources import SourceOptions, read_source

KNOWN = KnownIds(pa.array([1, 2, 15]), pa.array(["a", "b"]))


def read(spark: SparkSession, path: Path, **columns: str) -> SeenPairs:
    options = SourceOptions(str(path), columns=columns, need_rating=False, format_option=False)
    return read_seen(spark, read_source(spark, options), KNOWN)


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
    assert (seen.n_pairs, seen.n_known, seen.bad.n, seen.bad.lines) == (3, 2, 0, [])


def test_rows_without_two_ids_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("user,item,rating\n1,a,3\n,b,4\n2, ,4\n,,1\n2,b,x\n")
    seen = read(spark, tmp_path / "s.csv")
    assert pairs(seen.pairs) == [("1", "a"), ("2", "b")]
    assert (seen.n_pairs, seen.bad.n) == (2, 3)
    missing = ["user=null, item=b, in s.csv", "user=null, item=null, in s.csv"]
    assert seen.bad.lines == [
        f"user is missing (2 rows, such as {' | '.join(missing)})",
        "item is missing (1 row, such as user=2, item=null, in s.csv)",
    ]


def test_ids_of_other_forms_are_known(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("user,item\n15.0,a\n015,a\nNULL,b\n2,b\n2,z\n1E+0,a\n")
    seen = read(spark, tmp_path / "s.csv")
    assert pairs(seen.pairs) == [("015", "a"), ("15", "a"), ("2", "b"), ("2", "z")]
    assert (seen.n_pairs, seen.n_known, seen.bad.n) == (4, 2, 2)
    assert seen.changed.lines == ["1 user id written with decimals, such as 15.0: read as 15"]


def test_users_of_another_type_are_not_known() -> None:
    known = KNOWN.more_users(pa.array(["9", "1", "x"]))
    assert known.users.to_pylist() == [1, 2, 15, 9]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "bad.csv",
            "user,item\n,b\n,c\n",
            r"no usable pairs .*: user is missing \(2 rows, such as",
        ),
        ("bare.csv", "user,item\n", r"no usable pairs of a user and an item: it is empty: check"),
        ("one.csv", "user\n1\n", r"the first line 'user' has one field: a user and an item are"),
        (
            "odd.csv",
            "who,what\na,b\n",
            r'no user column among who, what: name it with `columns\["user"\]`',
        ),
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
