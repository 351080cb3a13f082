"""Several sources of ratings as one snapshot: who wins, what is counted, the fingerprint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.snapshot import Snapshot, read_snapshot
from als_spark.spark.read.sources import Source, SourceOptions, read_source

TIMED = "user int, item int, rating double, timestamp long"


def timed(spark: SparkSession, rows: list[Any], partitions: int = 2) -> Source:
    frame = spark.createDataFrame(rows, TIMED).repartition(partitions)
    return source_from_frame(frame, timestamp="timestamp")


def untimed(spark: SparkSession, rows: list[Any], schema: str = "int") -> Source:
    return source_from_frame(
        spark.createDataFrame(rows, f"user {schema}, item {schema}, rating double")
    )


def ratings_of(snapshot: Snapshot) -> dict[tuple[Any, Any], float]:
    return {(row.user, row["item"]): row.rating for row in snapshot.ratings.collect()}


def fingerprint(spark: SparkSession, *sources: Source) -> str:
    with read_snapshot(spark, sources, "last") as snapshot:
        return snapshot.fingerprint


BASE = [(1, 1, 1.0, 100), (1, 2, 2.0, 200), (2, 1, 3.0, 300)]


@pytest.mark.slow
def test_files_of_one_shape_are_read_as_files_of_several_are(
    spark: SparkSession, tmp_path: Path
) -> None:
    def write(name: str, *lines: str, header: str = "user,item,rating,timestamp,origin") -> Source:
        (tmp_path / name).write_text("\n".join([header, *lines, ""]))
        return read_source(spark, SourceOptions(path=str(tmp_path / name)))

    base = write("base.csv", "1,1,1,100,x", "1,2,2,200,x", "2,1,oops,300,x")
    alike = write("monday.csv", "1,1,5,150,y", "3,3,nix,400,y")
    other = write("tuesday.csv", "4,1,3,2", header="rating,user,item,timestamp")
    with read_snapshot(spark, [base, other, alike], "last") as snapshot:
        assert ratings_of(snapshot) == {("1", "1"): 5.0, ("1", "2"): 2.0, ("1", "3"): 4.0}
        counts = [(part.rows, part.bad_rows, part.highest) for part in snapshot.parts]
        assert counts == [(3, 1, 2.0), (1, 0, 4.0), (2, 1, 5.0)]
        assert [part.label for part in snapshot.parts] == [s.label for s in (base, other, alike)]
        (problem,) = snapshot.bad.lines
        # The example is of the file that it stands in.
        assert "rating is not a number (2 rows, such as user=2, item=1, rating=oops" in problem
        assert problem.endswith("in base.csv)")
        mixed = snapshot.fingerprint
    assert fingerprint(spark, base, alike, other) == mixed


def test_the_later_time_wins_whatever_the_order_of_the_sources(spark: SparkSession) -> None:
    later = timed(spark, [(1, 1, 5.0, 150), (1, 2, 4.0, 150)])
    for sources in ([timed(spark, BASE), later], [later, timed(spark, BASE)]):
        with read_snapshot(spark, sources, "last") as snapshot:
            assert ratings_of(snapshot) == {(1, 1): 5.0, (1, 2): 2.0, (2, 1): 3.0}
            assert (snapshot.n_ratings, snapshot.n_duplicates, snapshot.bad.n) == (3, 2, 0)
            assert (snapshot.lowest, snapshot.highest) == (2.0, 5.0)
            assert snapshot.mean == pytest.approx(10 / 3)


def test_at_one_time_the_later_source_wins_then_the_higher_rating(spark: SparkSession) -> None:
    sources = [
        timed(spark, [(1, 1, 5.0, 100)]),
        timed(spark, [(1, 1, 2.0, 100), (1, 1, 3.0, 100)]),
    ]
    with read_snapshot(spark, sources, "last") as snapshot:
        assert ratings_of(snapshot) == {(1, 1): 3.0}


@pytest.mark.slow
def test_without_times_the_later_source_wins(spark: SparkSession) -> None:
    sources = [
        timed(spark, [(1, 1, 5.0, 900), (1, 2, 1.0, 900)]),
        untimed(spark, [(1, 1, 2.0)]),
    ]
    with read_snapshot(spark, sources, "last") as snapshot:
        assert ratings_of(snapshot) == {(1, 1): 2.0, (1, 2): 1.0}
    with read_snapshot(spark, sources[::-1], "last") as snapshot:
        assert ratings_of(snapshot) == {(1, 1): 5.0, (1, 2): 1.0}


@pytest.mark.slow
def test_where_one_source_has_no_times_those_of_another_still_count_within_it(
    spark: SparkSession,
) -> None:
    # The older one comes last, and is the higher.
    events = timed(spark, [(1, 1, 2.0, 900), (1, 1, 5.0, 100), (1, 2, 1.0, 100)])
    late = untimed(spark, [(1, 2, 4.0), (3, 3, 1.0), (3, 3, 2.0)])
    with read_snapshot(spark, [events, late], "last") as snapshot:
        assert ratings_of(snapshot) == {(1, 1): 2.0, (1, 2): 4.0, (3, 3): 2.0}
        order, highest = snapshot.warnings
    assert order.startswith("no timestamps in the DataFrame: of a pair that is rated in several")
    assert highest.startswith("2 pairs are rated more than once within a source, and not all")
    with read_snapshot(spark, [events], "last") as snapshot:
        assert snapshot.warnings == []
    with read_snapshot(spark, [untimed(spark, [(1, 1, 1.0)]), late], "mean") as snapshot:
        assert snapshot.warnings == []


@pytest.mark.slow
def test_timestamps_in_other_units_are_told_of(spark: SparkSession) -> None:
    seconds = timed(spark, [(1, 1, 1.0, 1_700_000_000), (1, 2, 3.0, 900)])
    with read_snapshot(spark, [seconds, timed(spark, [(1, 1, 2.0, 1_800_000_000)])], "last") as s:
        assert s.warnings == []
    milliseconds = timed(spark, [(1, 1, 2.0, 1_600_000_000_000)])
    with read_snapshot(spark, [milliseconds, seconds], "last") as snapshot:
        assert ratings_of(snapshot)[1, 1] == 1.0
        assert snapshot.warnings == []
    days = timed(spark, [(1, 1, 2.0, 21_000)])
    with read_snapshot(spark, [days, seconds], "last") as snapshot:
        assert ratings_of(snapshot)[1, 1] == 1.0
        (warning,) = snapshot.warnings
    assert warning.startswith("the latest timestamp in the DataFrame is 1.7e+09, in the DataFrame")


@pytest.mark.slow
def test_text_is_unusable_where_ids_must_be_integers(spark: SparkSession) -> None:
    words = [("7", "7", 1.0), ("-3", "x", 2.0), ("guest", "1", 3.0), ("007", "1", 4.0)]
    words += [("9" * 19, "1", 5.0), (str(2**63 - 1), "1", 6.0)]
    source = untimed(spark, words, "string")
    with read_snapshot(spark, [source], "last", integer_ids=["user", "item"]) as snapshot:
        assert ratings_of(snapshot) == {("7", "7"): 1.0, (str(2**63 - 1), "1"): 6.0}
        problems = dict(problem.split(" (", 1) for problem in snapshot.bad.lines)
        wrong = "is text, where the current version has whole numbers"
        assert problems[f"item {wrong}"] == "1 row, such as user=-3, item=x, rating=2.0)"
        assert problems[f"user {wrong}"].startswith("3 rows, such as user=007, item=1, rating=4.0")
        assert snapshot.spread == 2.5
    with read_snapshot(spark, [source], "last", integer_ids=["item"]) as snapshot:
        assert snapshot.bad.n == 1
    with read_snapshot(spark, [untimed(spark, [(1, 1, 1.0)])], "last", integer_ids=["user"]) as s:
        assert s.bad.n == 0


def test_mean_and_error(spark: SparkSession) -> None:
    sources = [untimed(spark, [(1, 1, 5.0), (1, 2, 1.0)]), untimed(spark, [(1, 1, 2.0)])]
    with read_snapshot(spark, sources, "mean") as snapshot:
        assert ratings_of(snapshot) == {(1, 1): 3.5, (1, 2): 1.0}
    message = r"^the DataFrame \+ the DataFrame: 1 pairs are rated more than once: choose with"
    with (
        pytest.raises(DataError, match=message),
        read_snapshot(spark, sources, "error"),
    ):
        pass


@pytest.mark.spark35
def test_unusable_rows_are_counted_by_source(spark: SparkSession) -> None:
    sources = [
        untimed(spark, [(1, 1, 5.0), (1, 2, math.nan), (2, 2, 1.0)]),
        untimed(spark, [(1, None, 2.0), (3, 3, math.nan)]),
        untimed(spark, []),
    ]
    with read_snapshot(spark, sources, "last") as snapshot:
        counts = [(part.rows, part.bad_rows) for part in snapshot.parts]
        assert counts == [(3, 1), (2, 2), (0, 0)]
        assert (snapshot.parts[0].lowest, snapshot.parts[0].highest) == (1.0, 5.0)
        assert snapshot.parts[0].mean == 3.0
        assert all(math.isnan(snapshot.parts[k].mean) for k in (1, 2))
        assert snapshot.bad.n == 3
        assert snapshot.bad.lines == [
            "rating is NaN (2 rows, such as user=1, item=2, rating=NaN)",
            "item is missing (1 row, such as user=1, item=null, rating=2.0)",
        ]
        assert ratings_of(snapshot) == {(1, 1): 5.0, (2, 2): 1.0}


def test_no_usable_rows(spark: SparkSession) -> None:
    message = r"no usable ratings: rating is NaN \(1 row, such as user=1, item=1, rating=NaN\)"
    with (
        pytest.raises(DataError, match=message),
        read_snapshot(spark, [untimed(spark, [(1, 1, math.nan)])], "last"),
    ):
        pass


class TestFingerprint:
    def test_order_partitions_and_repetition_do_not_matter(self, spark: SparkSession) -> None:
        first = fingerprint(spark, timed(spark, BASE))
        assert first.startswith("3-")
        assert fingerprint(spark, timed(spark, BASE[::-1], 5)) == first
        assert fingerprint(spark, timed(spark, BASE[:2]), timed(spark, BASE[2:])) == first
        assert fingerprint(spark, timed(spark, BASE), timed(spark, BASE[1:])) == first

    @pytest.mark.parametrize(
        "rows",
        [
            [(1, 1, 1.5, 100), *BASE[1:]],
            pytest.param([*BASE, (3, 3, 1.0, 100)], marks=pytest.mark.slow),
            pytest.param(BASE[1:], marks=pytest.mark.slow),
            [(1, 1, 2.0, 100), (1, 2, 1.0, 200), BASE[2]],
            pytest.param([(1, 1, 1.0, 101), *BASE[1:]], marks=pytest.mark.slow),
            pytest.param([(2, 2, 1.0, 100), *BASE[1:]], marks=pytest.mark.slow),
        ],
    )
    def test_every_change_matters(self, spark: SparkSession, rows: list[Any]) -> None:
        assert fingerprint(spark, timed(spark, rows)) != fingerprint(spark, timed(spark, BASE))

    @pytest.mark.slow
    def test_text_and_integers_are_the_same_ids(self, spark: SparkSession, tmp_path: Path) -> None:
        rows = [(1, 1, 1.0), (1, 2, 2.5), (20, 1, 3.0)]
        file = tmp_path / "ratings.csv"
        file.write_text("user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows))
        table = untimed(spark, rows)
        read = read_source(spark, SourceOptions(str(file)))
        assert fingerprint(spark, read) == fingerprint(spark, table)
        with read_snapshot(spark, [read, table], "last") as snapshot:
            assert snapshot.n_ratings == 3
            assert snapshot.n_duplicates == 3
