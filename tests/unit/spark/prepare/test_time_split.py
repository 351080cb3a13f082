"""Ratings that are encoded already, split by time, against their twin in exact arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.encode import encode_chunk
from als_spark.spark.prepare.time_split import count_days, count_times, split_partition
from als_spark.spark.read.split import SplitOptions, latest_times
from als_spark.types import FloatArray
from tests.chunks import decoded
from tests.times import last_times_twin, time_split_twin, times_of

KINDS = (
    *("years", "one day", "ties", "before 1970", "parts of seconds", "one moment"),
    "just before midnight",
)


def chunks_of(times: FloatArray, n_chunks: int) -> list[pa.RecordBatch]:
    """Ratings of user k at the k-th time, in some chunks, one of them of no rating."""
    users = np.arange(times.size)
    parts = [*np.array_split(users, n_chunks), users[:0]]
    return [
        encode_chunk(
            pa.table(
                {
                    "user": pa.array(part),
                    "item": pa.array(part % 3),
                    "rating": pa.array(np.ones(part.size)),
                    "timestamp": pa.array(times[part]),
                    "bad": pa.nulls(part.size, pa.string()),
                }
            )
        )
        for part in parts
    ]


def counted(batches: Sequence[pa.RecordBatch]) -> list[tuple[float, int]]:
    total: Counter[float] = Counter()
    for batch in batches:
        for row in batch.to_pylist():
            total[row["value"]] += row["n"]
    return [*total.items()]


@pytest.mark.parametrize("n_chunks", [1, 4])
@pytest.mark.parametrize("shares", [("0.2", "0"), ("0.1", "0.2"), ("0", "0.3"), ("0.95", "0")])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_split_as_the_twin_does(
    kind: str, shares: tuple[str, str], n_chunks: int
) -> None:
    times = times_of(kind)
    chunks = chunks_of(times, n_chunks)
    test, validation = shares
    latest = latest_times(
        SplitOptions("time", 0, float(test), float(validation)),
        lambda: counted([*count_days(chunks)]),
        lambda days: counted([*count_times(chunks, days=days)]),
    )
    assert latest == last_times_twin(times, test, validation)
    split = [*split_partition(chunks, latest=latest)]
    rows = [row for chunk in split for row in decoded(chunk)]
    before = [row for chunk in chunks for row in decoded(chunk)]
    assert [(*row[:3], row[4]) for row in rows] == [(*row[:3], row[4]) for row in before]
    assert [row[3] for row in rows] == time_split_twin(times, test, validation)


def test_ratings_of_no_time_are_all_trained_on() -> None:
    assert latest_times(SplitOptions("time"), list, lambda days: []) == (0.0, 0.0)
