"""Ratings that are encoded already, split by time, against their twin in exact arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.encode import encode_chunk
from als_spark.spark.prepare.time_split import count_days, count_times, split_partition
from als_spark.spark.read.split import TEST, TRAIN, VALIDATION, SplitOptions, latest_times
from als_spark.types import FloatArray
from tests.chunks import decoded

RNG = np.random.default_rng(7)
TIMES = {
    "years": RNG.integers(0, 10**9, 3000).astype(float),
    "one day": RNG.integers(86_400, 2 * 86_400, 997).astype(float),
    "ties": RNG.integers(0, 9, 500) * 40_000.0,
    "before 1970": RNG.integers(-(10**7), 10**6, 1000).astype(float),
    "parts of seconds": RNG.integers(0, 3 * 86_400, 1000) + RNG.integers(0, 4, 1000) / 4,
    "one moment": np.full(50, 5.0),
    "just before midnight": np.nextafter(np.arange(1, 41) * 86_400.0, 0),
}


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


def last_before(times: FloatArray, held: Fraction) -> float:
    """The k-th smallest time for k = ⌈n (1 − share)⌉."""
    return float(np.sort(times)[math.ceil(times.size * (1 - held)) - 1])


@pytest.mark.parametrize("n_chunks", [1, 4])
@pytest.mark.parametrize("shares", [("0.2", "0"), ("0.1", "0.2"), ("0", "0.3"), ("0.95", "0")])
@pytest.mark.parametrize("kind", TIMES)
def test_chunks_are_split_as_the_twin_does(
    kind: str, shares: tuple[str, str], n_chunks: int
) -> None:
    times = TIMES[kind]
    chunks = chunks_of(times, n_chunks)
    test, validation = shares
    latest = latest_times(
        SplitOptions("time", 0, float(test), float(validation)),
        lambda: counted([*count_days(chunks)]),
        lambda days: counted([*count_times(chunks, days=days)]),
    )
    to_validation = last_before(times, Fraction(test))
    to_train = last_before(times, Fraction(test) + Fraction(validation))
    assert latest == (to_train, to_validation)
    split = [*split_partition(chunks, latest=latest)]
    rows = [row for chunk in split for row in decoded(chunk)]
    before = [row for chunk in chunks for row in decoded(chunk)]
    assert [(*row[:3], row[4]) for row in rows] == [(*row[:3], row[4]) for row in before]
    for *_, code, time in rows:
        assert code == (TEST if time > to_validation else VALIDATION if time > to_train else TRAIN)


def test_ratings_of_no_time_are_all_trained_on() -> None:
    assert latest_times(SplitOptions("time"), list, lambda days: []) == (0.0, 0.0)
