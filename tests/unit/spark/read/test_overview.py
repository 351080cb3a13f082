"""What executors count of ratings: several partitions and buckets against plain Python."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.read.histogram import (
    BARS,
    MAX_VALUES,
    few_values,
    histogram,
    unpack_counts,
)
from als_spark.spark.read.overview import (
    count_partition,
    count_repeated,
    merge_partition,
    pair_hashes,
)

RNG = np.random.default_rng(3)
N = 3000
USERS, ITEMS = (
    (4 * RNG.integers(-(2**61), 2**61 - 1, n) + np.arange(n) % 3)[RNG.integers(0, n, N)]
    for n in (200, 50)
)
RATINGS = RNG.integers(1, 11, N) / 2


def table(rows: slice, bad: list[str | None] | None = None, **more: Any) -> pa.Table:
    columns = {"user": USERS[rows], "item": ITEMS[rows], "rating": RATINGS[rows]}
    n = len(columns["user"])
    return pa.table({**columns, "bad": pa.array(bad or [None] * n, pa.string()), **more})


def run(*partitions: pa.Table) -> dict[str, list[bytes]]:
    """Run both functions as Spark does, with two tasks for the buckets."""
    pieces = [b for part in partitions for b in count_partition(part.to_batches(700))]
    rows = pa.Table.from_batches(pieces)
    even = pa.compute.equal(pa.compute.bit_wise_and(rows["bucket"], 1), 0)
    found: dict[str, list[bytes]] = {}
    for task in (rows.filter(even), rows.filter(pa.compute.invert(even))):
        for batch in merge_partition(task.to_batches()):
            for row in batch.to_pylist():
                found.setdefault(row["kind"], []).append(row["data"])
    return found


def test_counts_are_those_of_the_rows() -> None:
    found = run(table(slice(0, 1000)), table(slice(1000, None)))
    for side, ids in (("user", USERS), ("item", ITEMS)):
        degrees: Counter[int] = Counter()
        for data in found[side]:
            values, counts = unpack_counts(data, np.int64)
            degrees.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        assert degrees == Counter(Counter(ids.tolist()).values())
        shapes = Counter[int]()
        for data in found[f"{side} shapes"]:
            shapes.update(dict(enumerate(np.frombuffer(data, np.int64).tolist())))
        # The last two bits of a hash; none of these has 3.
        assert shapes == Counter(int(id_) & 3 for id_ in set(ids.tolist()))
    pairs = Counter(zip(USERS.tolist(), ITEMS.tolist(), strict=True))
    repeated = [json.loads(data) for data in found["pairs"]]
    assert sum(p for p, _ in repeated) == sum(n > 1 for n in pairs.values()) > 0
    assert sum(more for _, more in repeated) == N - len(pairs)
    values = Counter[float]()
    for data in found["values"]:
        ratings, counts = unpack_counts(data, np.float64)
        values.update(dict(zip(ratings.tolist(), counts.tolist(), strict=True)))
    assert values == Counter(RATINGS.tolist())
    facts = [entry for data in found["facts"] for entry in json.loads(data)]
    assert sum(entry["ratings"] for entry in facts) == N
    assert math.isclose(sum(entry["sum"] for entry in facts), RATINGS.sum())


def test_unusable_rows_and_times_are_counted() -> None:
    bad = [None, "rating is missing\x1fuser=1", None, None]
    times = pa.array([5.0, 1.0, None, 7.0])
    found = run(table(slice(0, 4), bad, timestamp=times), table(slice(0, 0)))
    (entry,) = json.loads(found["facts"][0])
    assert (entry["rows"], entry["ratings"], entry["untimed"]) == (4, 3, 1)
    assert (entry["earliest"], entry["latest"]) == (5.0, 7.0)
    assert json.loads(entry["bad"])[0] == {"rating is missing": 1}


def test_repeats_are_counted_beyond_the_first() -> None:
    pieces = [np.array(part, np.int64).tobytes() for part in ([3, 3, 5], [5, 3, 9], [])]
    assert count_repeated(pieces) == (2, 3)
    assert count_repeated([np.array([1], np.int64).tobytes()]) == (0, 0)


def test_pairs_have_hashes_of_their_own() -> None:
    hashes = RNG.integers(-(2**63), 2**63 - 1, 300)
    users, items = (side.ravel() for side in np.meshgrid(hashes, hashes))
    # (u, i) is another pair than (i, u).
    assert np.unique(pair_hashes(users, items)).size == hashes.size**2


def test_few_values_have_a_bar_each() -> None:
    bars = histogram(np.array([0.5, 4.0]), np.array([3, 7]), 0.5, 4.0)
    assert [(bar.low, bar.high, bar.count) for bar in bars] == [(0.5, 0.5, 3), (4.0, 4.0, 7)]


@pytest.mark.parametrize("tailed", [False, True])
def test_many_values_share_bars(tailed: bool) -> None:
    values = np.arange(1.0, 1001.0)
    counts = np.maximum(2000 // values.astype(int) ** 2, 1) if tailed else np.full(1000, 5)
    bars = histogram(values, counts, 1.0, 1000.0)
    assert len(bars) == BARS
    assert sum(bar.count for bar in bars) == counts.sum()
    for bar in bars[:-1]:
        inside = (values >= bar.low) & (values < bar.high)
        assert bar.count == counts[inside].sum()
    widths = [bar.high - bar.low for bar in bars]
    ratios = [bar.high / bar.low for bar in bars]
    assert np.allclose(ratios if tailed else widths, (ratios if tailed else widths)[0])


def test_of_very_many_values_three_digits_count() -> None:
    values = np.sort(np.concatenate([RNG.lognormal(0, 3, MAX_VALUES * 3), [0.0, -1234.5]]))
    counts = np.ones(values.size, np.int64)
    found, numbers = few_values(values, counts)
    assert found.size < values.size
    assert numbers.sum() == values.size
    rounded = Counter(f"{value:.2e}" for value in found.tolist())
    assert set(rounded) >= {"0.00e+00", "-1.23e+03"}
    assert few_values(values[:MAX_VALUES], counts[:MAX_VALUES])[0].size == MAX_VALUES
