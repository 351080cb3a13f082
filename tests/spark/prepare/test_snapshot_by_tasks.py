"""A snapshot that tasks read themselves is the one that Spark reads."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.prepare.snapshot import open_snapshot
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.snapshot import Snapshot, read_snapshot
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.spark.read.split import SplitOptions, split_ratings
from tests.chunks import BY_TASKS, decoded

SPLIT = SplitOptions("random", 5, 0.3)


def write(path: Path, users: list[int], items: list[int], times: list[int] | None = None) -> None:
    values = [-0.0, 0.1, 2.5]
    columns = {
        "userId": pa.array(users, pa.int32()),
        "movieId": pa.array(items),
        "rating": pa.array((values * len(users))[: len(users)], pa.float32()),
    }
    if times is not None:
        columns["timestamp"] = pa.array(times)
    pq.write_table(pa.table(columns), path, row_group_size=3)


def check_same(ours: Snapshot, theirs: Snapshot) -> None:
    assert exact_facts(ours) == exact_facts(theirs)
    assert moments(ours) == pytest.approx(moments(theirs), rel=1e-12)
    assert ours.ratings.schema == theirs.ratings.schema
    assert sorted_rows(ours.ratings) == sorted_rows(theirs.ratings)


def moments(snapshot: Snapshot) -> tuple[float, ...]:
    return snapshot.mean, snapshot.spread, snapshot.parts[0].mean


def exact_facts(snapshot: Snapshot) -> tuple:
    return (
        *(snapshot.label, snapshot.n_ratings, snapshot.n_duplicates, snapshot.fingerprint),
        *(snapshot.lowest, snapshot.highest, snapshot.warnings, snapshot.first_rows),
        [(p.label, p.rows, p.bad_rows, p.lowest, p.highest) for p in snapshot.parts],
    )


def sorted_rows(frame: DataFrame) -> list[tuple]:
    return sorted(tuple(row) for row in frame.collect())


@pytest.mark.spark35
def test_the_tasks_read_the_snapshot_that_spark_reads(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="als_spark")
    users, items = [7, 7, -8, 12345678, 9, -8, 7], [2**60, -1, 1, 5, 123, 2, 44]
    times = [10, 2 * 10**11, 30, 40, 50, 60, 70]
    write(tmp_path / "base.parquet", users, items, times)
    write(tmp_path / "later.parquet", [1, 2], [3, 4])
    write(tmp_path / "repeated.parquet", [3, 7], [3, 44])
    base, later, repeated = (
        read_source(spark, SourceOptions(str(tmp_path / f"{name}.parquet")))
        for name in ("base", "later", "repeated")
    )
    with (
        open_snapshot(spark, [base, later], "last", split=SPLIT) as ours,
        read_snapshot(spark, [base, later], "last") as theirs,
    ):
        assert ours.encoded is not None
        assert BY_TASKS in caplog.text
        check_same(ours, theirs)
        assert ours.parts[0].latest == theirs.parts[0].latest == 2e8
    caplog.clear()
    with (
        open_snapshot(spark, [base, repeated], "mean") as ours,
        read_snapshot(spark, [base, repeated], "mean") as theirs,
    ):
        assert ours.encoded is None
        assert "Spark reads the ratings: a pair is rated more than once" in caplog.text
        check_same(ours, theirs)
        assert ours.n_duplicates == 1
    by_time = SplitOptions("time", test_fraction=0.3)
    frames = source_from_frame(base.frame.where("rating < 9"), "userId", "movieId")
    for sources, split, n in (([frames], SPLIT, 7), ([base, later], by_time, 9)):
        with open_snapshot(spark, sources, "last", split=split) as ours:
            # Ratings without timestamps are not split by time.
            assert ours.encoded is None
            assert ours.n_ratings == n


def test_the_tasks_split_the_snapshot_by_time(spark: SparkSession, tmp_path: Path) -> None:
    users = [*range(10, 17)]
    times = [10, 2 * 10**11, 30, 40, 50, 60, 70]
    write(tmp_path / "base.parquet", users, [*range(7)], times)
    write(tmp_path / "later.parquet", [1, 2], [3, 4], [65, 30])
    sources = [
        read_source(spark, SourceOptions(str(tmp_path / f"{name}.parquet")))
        for name in ("base", "later")
    ]
    options = SplitOptions("time", test_fraction=0.25, validation_fraction=0.3)
    with (
        open_snapshot(spark, sources, "last", split=options) as ours,
        read_snapshot(spark, sources, "last") as theirs,
    ):
        check_same(ours, theirs)
        assert ours.encoded is not None
        wanted = split_ratings(theirs.ratings, options)
        assert ours.encoded.latest == (50.0, 65.0)
        chunks = ours.encoded.chunks.toArrow()
        rows = [row[:4] for k in range(len(chunks)) for row in decoded(chunks.slice(k, 1))]
        assert sorted(rows) == sorted(
            (row.user, row.item, row.rating, row.split) for row in wanted.collect()
        )
        found = split_ratings(ours.ratings, options, ours.encoded.latest)
        assert sorted_rows(found) == sorted_rows(wanted)


@pytest.mark.slow
def test_the_tasks_read_lines_of_numbers_as_spark_does(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="als_spark")
    folder = tmp_path / "a b%20"
    folder.mkdir()
    lines = ["7,-3,4.5,10", "7,12,0.1,20", "9223372036854775807,1,-0.25,2000000000000"]
    (folder / "a.csv").write_text("userId,movieId,rating,timestamp\n" + "\n\n".join(lines))
    (folder / "b.csv").write_text("userId,movieId,rating,timestamp\n8,1,5,30\n")
    (tmp_path / "text.csv").write_text("1,2,3\n007,2,3\n")
    numbers, text = (
        read_source(spark, SourceOptions(str(path))) for path in (folder, tmp_path / "text.csv")
    )
    with (
        open_snapshot(spark, [numbers], "last", split=SPLIT) as ours,
        read_snapshot(spark, [numbers], "last") as theirs,
    ):
        assert BY_TASKS in caplog.text
        assert exact_facts(ours)[:-2] == exact_facts(theirs)[:-2]
        # Ids of text are integers once they are numbered.
        rows, others = (
            sorted(
                (int(row.user), int(row.item), row.rating, row.timestamp) for row in part.collect()
            )
            for part in (ours.ratings, theirs.ratings)
        )
        assert rows == others
    with open_snapshot(spark, [text], "last", split=SPLIT) as ours:
        assert ours.encoded is None
        assert "Spark reads the ratings: a number begins with a zero" in caplog.text
        assert sorted(row.user for row in ours.ratings.collect()) == ["007", "1"]


def test_files_without_a_rating_are_refused_as_spark_refuses_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path / "none.parquet", [1], [1])
    # A row group without a row.
    pq.write_table(pq.read_table(tmp_path / "none.parquet").slice(1), tmp_path / "none.parquet")
    source = read_source(spark, SourceOptions(str(tmp_path / "none.parquet")))
    with (
        pytest.raises(DataError, match="no usable ratings: it is empty"),
        open_snapshot(spark, [source], "last"),
    ):
        pass
