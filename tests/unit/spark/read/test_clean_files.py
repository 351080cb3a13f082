"""What a task reads from Parquet files by itself, and what it leaves to Spark; no Spark."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.spark.prepare.encode import encode_partition, encode_tasks
from als_spark.spark.read.clean_files import (
    CleanFiles,
    NotClean,
    Rules,
    Unit,
    Version,
    _row_groups,
    _share_out,
    read_units,
)

COLUMNS = {"user": "u", "item": "i", "rating": "r"}
NEVER = Version(0, 0)
MLLIB = Rules(float(np.finfo(np.float32).max), single=True, int_ids=True)


def write(path: Path, users: pa.Array, items: pa.Array, ratings: pa.Array) -> Unit:
    """A file of row groups of two rows; all of them as one unit."""
    pq.write_table(pa.table({"r": ratings, "i": items, "u": users}), path, row_group_size=2)
    return Unit(str(path), Version.of(str(path)), 0, -(-len(users) // 2))


def test_ratings_are_read_as_spark_would_hand_them_over(tmp_path: Path) -> None:
    ratings = pa.array([0.1, 2.0, -3.5], pa.float32())
    unit = write(tmp_path / "a", pa.array([7, 8, 7], pa.int16()), pa.array([1, 2, 2**60]), ratings)
    table = pa.Table.from_batches(read_units([unit, unit._replace(stop=1)], COLUMNS, Rules(1e18)))
    assert table.to_pydict() == {
        "user": [7, 8, 7, 7, 8],
        "item": [1, 2, 2**60, 1, 2],
        "rating": [float(np.float32(0.1)), 2.0, -3.5, float(np.float32(0.1)), 2.0],
        "bad": [None] * 5,
    }
    # Ids as they are in the file: chunks have them as 64 bits.
    assert table.schema.types == [pa.int16(), pa.int64(), pa.float64(), pa.string()]

    files = CleanFiles(((unit,), (unit._replace(first=1),)), COLUMNS, Rules(1e18))
    numbers = [pa.record_batch([pa.array([1])], names=["id"])]
    (chunk,) = encode_tasks(numbers, files=files)
    last = table.slice(2, 1).to_batches()
    assert chunk.equals(next(encode_partition(last)))


def test_mllibs_ratings_are_rounded_to_single_precision(tmp_path: Path) -> None:
    unit = write(tmp_path / "a", pa.array([1]), pa.array([2]), pa.array([0.1]))
    (batch,) = read_units([unit], COLUMNS, MLLIB)
    assert batch.column("rating").to_pylist() == [float(np.float32(0.1))]


@pytest.mark.parametrize(
    ("user", "rating", "rules", "reason"),
    [
        (None, 1.0, Rules(1e18), "a value is missing"),
        (1, None, Rules(1e18), "a value is missing"),
        (1, float("nan"), Rules(1e18), "not a finite number"),
        (1, float("-inf"), Rules(1e18), "not a finite number"),
        (1, 1.1e18, Rules(1e18), "not a finite number"),
        (1, 1e39, MLLIB, "not a finite number"),
        (2**31, 1.0, MLLIB, "a user is beyond the int range"),
        (-(2**31) - 1, 1.0, MLLIB, "a user is beyond the int range"),
    ],
)
def test_what_is_not_plainly_usable_is_left_to_spark(
    user: int | None, rating: float | None, rules: Rules, reason: str, tmp_path: Path
) -> None:
    users, ratings = pa.array([1, user, 3]), pa.array([1.0, rating, 2.0])
    unit = write(tmp_path / "a", users, pa.array([1, 2, 3]), ratings)
    with pytest.raises(NotClean, match=reason):
        list(read_units([unit], COLUMNS, rules))
    files = CleanFiles(((unit,),), COLUMNS, rules)
    (refused,) = encode_tasks([pa.record_batch([pa.array([0])], names=["id"])], files=files)
    assert refused.column("n_ratings").to_pylist() == [-1]


def test_the_ends_of_the_int_range_are_usable(tmp_path: Path) -> None:
    users = pa.array([2**31 - 1, -(2**31)])
    unit = write(tmp_path / "a", users, pa.array([1, 2]), pa.array([1.0, 2.0]))
    (batch,) = read_units([unit], COLUMNS, MLLIB)
    assert batch.column("user").equals(users)


def test_files_that_cannot_be_read_are_left_to_spark(tmp_path: Path) -> None:
    gone = Unit(str(tmp_path / "gone"), NEVER, 0, 1)
    with pytest.raises(NotClean, match="gone"):
        list(read_units([gone], COLUMNS, MLLIB))
    torn = tmp_path / "torn"
    torn.write_bytes(b"PAR1 torn")
    with pytest.raises(NotClean, match="magic"):
        list(read_units([Unit(str(torn), Version.of(str(torn)), 0, 1)], COLUMNS, MLLIB))


def test_files_that_change_are_left_to_spark(tmp_path: Path) -> None:
    ones, path = pa.array([1, 2]), tmp_path / "a"
    unit = write(path, ones, ones, pa.array([1.0, 2.0]))
    write(path, ones, ones, pa.array([3.0, 4.0]))
    os.utime(path, ns=(0, unit.version.modified + 1))
    with pytest.raises(NotClean, match="a has changed since it was looked at"):
        list(read_units([unit], COLUMNS, MLLIB))


def test_only_files_with_the_columns_wanted_have_row_groups(tmp_path: Path) -> None:
    ones = pa.array([1, 2, 3])
    unit = write(tmp_path / "a", ones, ones, pa.array([1.0, 2.0, 3.0]))
    wanted = {"u": pa.int64(), "r": pa.float64()}
    found = [(unit._replace(stop=1), 2), (unit._replace(first=1), 1)]
    assert _row_groups(unit.path, wanted) == found
    assert _row_groups(unit.path, {"u": pa.int32()}) is None
    assert _row_groups(unit.path, {"U": pa.int64()}) is None
    # Two columns to Arrow; to Spark it is one that is there twice.
    pq.write_table(pa.table({"u": ones, "U": ones}), unit.path)
    assert _row_groups(unit.path, {"u": pa.int64()}) is None


def test_tasks_get_about_as_many_rows_in_the_order_of_the_files() -> None:
    units = [(Unit(path, NEVER, k, k + 1), 10) for path in "abc" for k in range(2)]
    assert _share_out(units, 2) == (
        (Unit("a", NEVER, 0, 2), Unit("b", NEVER, 0, 1)),
        (Unit("b", NEVER, 1, 2), Unit("c", NEVER, 0, 2)),
    )
    # No more tasks than there are row groups, and none that reads nothing.
    assert _share_out(units[:1], 4) == ((Unit("a", NEVER, 0, 1),),)
    assert _share_out([(Unit("a", NEVER, 0, 1), 90), (Unit("b", NEVER, 0, 1), 10)], 2) == (
        (Unit("a", NEVER, 0, 1),),
        (Unit("b", NEVER, 0, 1),),
    )
