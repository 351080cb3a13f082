"""Ratings of new users, found on Spark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.model.foldin import fold_in
from als_spark.spark.read.bad_rows import BadRowCounts
from als_spark.spark.read.ids import ChangedIds
from als_spark.spark.read.new_users import NewRatings, last_of_pairs, read_new_ratings
from als_spark.spark.read.sources import SourceOptions, read_source
from tests.conftest import random_model

MODEL = random_model()
KNOWN = MODEL.users.ids[int(np.flatnonzero(MODEL.user_stats.degrees)[0])].as_py()
UNRATED = MODEL.users.ids[0].as_py()
ITEMS = MODEL.items.ids.to_pylist()[1:4]


def read(spark: SparkSession, path: Path, lines: list[str], asked: Any = None) -> NewRatings:
    path.write_text("".join(f"{line}\n" for line in lines))
    source = read_source(spark, SourceOptions(str(path)))
    return read_new_ratings(spark, source, MODEL, asked)


def rows(found: NewRatings) -> list[tuple[str, str, float]]:
    return [tuple(row.values()) for row in found.table.to_pylist()]


def test_those_that_the_model_has_not_trained_on(spark: SparkSession, tmp_path: Path) -> None:
    assert MODEL.user_stats.degrees[0] == 0
    a, b, c = ITEMS
    lines = [f"{KNOWN},{a},1", f"{UNRATED},{a},2", f"9001,{b},3", f"9001,{c},4", f"9002,{a},5"]
    found = read(spark, tmp_path / "r.csv", ["user,item,rating", *lines])
    expected = [(9001, b, 3.0), (9001, c, 4.0), (9002, a, 5.0), (UNRATED, a, 2.0)]
    assert sorted(rows(found)) == sorted((str(u), str(i), r) for u, i, r in expected)
    assert (found.bad.n, found.bad.lines) == (0, [])
    folded = found.fold_in(MODEL)
    wanted = fold_in(MODEL, "user", *(list(column) for column in zip(*expected, strict=True)))
    assert folded.ids.ids.equals(wanted.ids.ids)
    np.testing.assert_array_equal(folded.factors, wanted.factors)
    frame = found.pairs(spark)
    assert sorted(map(tuple, frame.collect())) == sorted((u, i) for u, i, _ in rows(found))


def test_those_that_are_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["user,item,rating", f"9001,{ITEMS[0]},3", f"9002,{ITEMS[0]},4", f"{KNOWN},7,1"]
    asked = pa.array(["9002", str(KNOWN), "9003"])
    assert rows(read(spark, tmp_path / "r.csv", lines, asked)) == [("9002", str(ITEMS[0]), 4.0)]
    none = read(spark, tmp_path / "r.csv", lines, asked.slice(1))
    assert rows(none) == []
    assert len(none.fold_in(MODEL).ids) == 0
    assert none.pairs(spark).collect() == []


def test_times_decide_between_ratings_of_a_pair_and_do_no_more(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = ["user,item,rating,timestamp", "9001,1,2,rubbish", "9001,1,3,50", "9001,1,5,"]
    lines += ["9002,1,4,", "9002,1,1,1e300", "9002,1,x,7"]
    found = read(spark, tmp_path / "r.csv", lines)
    assert rows(found) == [("9001", "1", 3.0), ("9002", "1", 4.0)]
    assert (found.bad.n, found.n_ratings, found.n_duplicates) == (1, 5, 3)
    (problem,) = found.bad.lines
    assert problem.startswith("rating is not a number (1 row, such as user=9002, item=1, rating=x,")


def test_a_column_that_holds_no_times_is_not_looked_at(spark: SparkSession) -> None:
    frame = spark.sql("select 9001 user, 1 item, 2.0 rating, true timestamp")
    frame.createOrReplaceTempView("odd_times")
    source = read_source(spark, SourceOptions(table="odd_times"))
    assert "timestamp" in source.columns
    found = read_new_ratings(spark, source, MODEL)
    assert found.table.to_pylist() == [{"user": 9001, "item": 1, "rating": 2.0}]
    assert found.pairs(spark).dtypes == [("user", "bigint"), ("item", "bigint")]


def test_ids_of_other_forms(spark: SparkSession, tmp_path: Path) -> None:
    item = ITEMS[0]
    lines = ["user,item,rating", f"{KNOWN}.0,{item},1", f"9001.0,{item}.0,3", f"NULL,{item},3"]
    found = read(spark, tmp_path / "r.csv", [*lines, f"9E+3,{item},3"])
    assert rows(found) == [("9001", str(item), 3.0)]
    assert found.changed.counts == {"user": 2, "item": 1}
    assert found.bad.counts == {
        "user is in scientific notation, which may have lost digits": 1,
        "user is missing: a null word": 1,
    }
    assert found.fold_in(MODEL).ids.ids.to_pylist() == [9001]


def test_ids_of_another_kind(spark: SparkSession, tmp_path: Path) -> None:
    found = read(spark, tmp_path / "r.csv", ["user,item,rating", f"abc,{ITEMS[0]},3"])
    message = r"r\.csv: user id 'abc': the ids of this model are integers: give integers$"
    with pytest.raises(DataError, match=message):
        found.fold_in(MODEL)


def test_a_user_whose_system_has_no_solution() -> None:
    model = replace(random_model(), description={"lambda_reg": 0.0, "exponent": 0.0})
    model.factors.items[:] = 0.0
    table = pa.table({"user": [9001], "item": ITEMS[:1], "rating": [3.0]})
    message = r"^r\.csv: user 9001 cannot be folded in, .* lambda=0: leave these ratings out, or"
    with pytest.raises(DataError, match=message):
        NewRatings(table, "r.csv", BadRowCounts({}, {}), ChangedIds(), 1, 0).fold_in(model)


def test_nothing_to_use(spark: SparkSession, tmp_path: Path) -> None:
    message = (
        r"r\.csv: no usable ratings: rating is not a number \(2 rows, such as .*\): give ratings of"
    )
    with pytest.raises(DataError, match=message):
        read(spark, tmp_path / "r.csv", ["user,item,rating", "1,2,x", "3,4,y"])


def test_the_last_of_each_pair() -> None:
    columns = {
        "user": ["b", "a", "a", "a", "b"],
        "item": [1, 1, 2, 1, 1],
        "timestamp": [5.0, None, 0.0, None, 4.0],
        "rating": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
    for order in (range(5), [4, 2, 0, 3, 1]):
        table = pa.table({name: [values[k] for k in order] for name, values in columns.items()})
        found = last_of_pairs(table).to_pydict()
        assert found == {"user": ["a", "a", "b"], "item": [1, 2, 1], "rating": [4.0, 3.0, 1.0]}
    assert last_of_pairs(table.slice(0, 0)).num_rows == 0
    assert last_of_pairs(table.slice(0, 1)).num_rows == 1
