"""Chunks, the numbering of ids, what stops a run; no Spark."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import DataError
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import encode_values
from als_spark.spark.prepare import encode as encoding
from als_spark.spark.prepare.encode import (
    CHUNK_FIELDS,
    Summary,
    check_summary,
    encode_chunk,
    encode_partition,
)
from als_spark.spark.read.bad_rows import BadRowCounts
from als_spark.spark.read.histogram import Bar, bars_of, count_encoded
from als_spark.spark.read.ids import merge_ids
from tests.chunks import decoded

TYPED_FIELDS = pa.schema(
    [
        ("user", pa.int64()),
        ("item", pa.string()),
        ("rating", pa.float64()),
        ("timestamp", pa.float64()),
        ("bad", pa.string()),
        ("split", pa.int8()),
    ]
)

Row = tuple[Any, ...]
ROWS: list[Row] = [
    (7, "b", 4.0, 100.0, None, None, 0),
    (7, "a", 3.5, 200.0, None, None, 2),
    (None, "a", 1.0, 300.0, "user is missing", "user=null,\n item=a", 0),
    (-1, "b", 0.5, 400.0, None, None, 1),
    (3, "b", None, 500.0, "rating is missing", "user=3, item=b", 0),
    (None, "c", 2.0, 600.0, "user is missing", "user=null, item=c", 0),
]


def batches(rows: Sequence[Row], size: int = 2) -> Iterator[pa.RecordBatch]:
    """Rows as Spark hands them over: a few at a time."""
    for first in range(0, len(rows), size):
        joined = [
            (*row[:4], None if row[4] is None else f"{row[4]}\x1f{row[5]}", row[6])
            for row in rows[first : first + size]
        ]
        columns = zip(*joined, strict=True)
        arrays = [
            pa.array(values, kind) for values, kind in zip(columns, TYPED_FIELDS.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=TYPED_FIELDS)


def table(rows: Sequence[Row] = ROWS) -> pa.Table:
    return pa.Table.from_batches(batches(rows), schema=TYPED_FIELDS)


def test_a_chunk_holds_the_good_rows_and_counts_the_bad_ones() -> None:
    chunk = encode_chunk(table())
    assert chunk.schema == CHUNK_FIELDS
    assert decoded(chunk) == [
        (7, "b", 4.0, 0, 100.0),
        (7, "a", 3.5, 2, 200.0),
        (-1, "b", 0.5, 1, 400.0),
    ]
    (row,) = chunk.to_pylist()
    assert (row["lowest"], row["highest"]) == (0.5, 4.0)
    assert BadRowCounts.of_texts([row["bad"]]) == BadRowCounts(
        {"user is missing": 2, "rating is missing": 1},
        {
            "rating is missing": ["user=3, item=b"],
            "user is missing": ["user=null, item=a", "user=null, item=c"],
        },
    )


def test_a_chunk_tells_its_first_rows_and_how_often_each_rating_comes() -> None:
    (row,) = encode_chunk(table()).to_pylist()
    first = json.loads(row["first_rows"])
    roles = ("user", "item", "rating", "timestamp", "problem")
    assert first == [dict(zip(roles, values[:5], strict=True)) for values in ROWS[:5]]
    assert [entry["problem"] for entry in first[:3]] == [None, None, "user is missing"]
    assert bars_of([row["values"], b""], 0.5, 4.0) == (
        *(Bar(0.5, 0.5, 1), Bar(3.5, 3.5, 1), Bar(4.0, 4.0, 1)),
    )


@pytest.mark.parametrize("n_levels", [3, 200, 3000])
def test_ratings_of_a_chunk_are_counted_whatever_their_number(n_levels: int) -> None:
    ratings = np.random.default_rng(1).permutation(np.arange(6000) % n_levels) / 8 - 1
    rows = pa.table(
        {
            "user": np.arange(6000),
            "item": np.arange(6000),
            "rating": ratings,
            "bad": pa.nulls(6000, pa.string()),
        }
    )
    (row,) = encode_chunk(rows).to_pylist()
    bars = bars_of([row["values"]], float(ratings.min()), float(ratings.max()))
    assert sum(bar.count for bar in bars) == 6000
    if n_levels == 3:
        assert [(bar.low, bar.count) for bar in bars] == [(-1, 2000), (-0.875, 2000), (-0.75, 2000)]
    else:
        # As many of each level, and so in each of the bars of one width, but for the rounding.
        heights = [bar.count for bar in bars]
        assert max(heights) - min(heights) < 6000 / len(bars) / 4


def test_whole_numbers_are_counted_as_what_they_are_however_many_there_are() -> None:
    ratings = np.tile(np.arange(-300.0, 301.0), 2)
    values, counts = count_encoded(*encode_values(pa.array(ratings)))
    assert values.tolist() == list(range(-300, 301))
    assert set(counts.tolist()) == {2}
    # Of others three digits count.
    values, counts = count_encoded(*encode_values(pa.array(ratings + 0.123456)))
    assert counts.sum() == ratings.size
    np.testing.assert_allclose(values, np.arange(-300, 301) + 0.123456, rtol=1 / 2048)


def test_a_chunk_without_timestamps_keeps_none() -> None:
    rows = [(*row[:3], None, *row[4:]) for row in ROWS]
    (row,) = encode_chunk(table(rows)).to_pylist()
    assert row["timestamps"] == b""


def test_a_missing_timestamp_among_others_is_nan() -> None:
    rows = [ROWS[0], (*ROWS[1][:3], None, *ROWS[1][4:])]
    (row,) = encode_chunk(table(rows)).to_pylist()
    np.testing.assert_array_equal(np.frombuffer(row["timestamps"], np.float64), [100.0, np.nan])


def test_a_chunk_of_training_ratings_without_times() -> None:
    chunk = encode_chunk(table().drop_columns(["timestamp", "split"]))
    assert decoded(chunk) == [
        (7, "b", 4.0, 0, None),
        (7, "a", 3.5, 0, None),
        (-1, "b", 0.5, 0, None),
    ]


def test_a_chunk_of_bad_rows_only() -> None:
    chunk = encode_chunk(table([ROWS[2], ROWS[4]]))
    assert decoded(chunk) == []
    (row,) = chunk.to_pylist()
    assert (row["lowest"], row["highest"], row["n_ratings"]) == (np.inf, -np.inf, 0)


def test_examples_are_few_and_short() -> None:
    bad = [(1, "a", None, 1.0, "bad", f"{k} {'x' * 10_000} in f.csv", 0) for k in range(9)]
    (row,) = encode_chunk(table(bad)).to_pylist()
    found = BadRowCounts.of_texts([row["bad"]])
    examples = found.examples["bad"]
    assert [example[:3] for example in examples] == ["0 x", "1 x", "2 x"]
    assert all(len(example) <= 160 for example in examples)
    assert all(example.endswith("x in f.csv") for example in examples)
    assert found.counts == {"bad": 9}


@pytest.mark.parametrize(("most", "sizes"), [(1, [2, 1, 0]), (3, [3, 0]), (100, [3])])
def test_a_partition_becomes_chunks_of_bounded_size(
    most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "CHUNK_ROWS", most)
    chunks = list(encode_partition(batches(ROWS)))
    assert [chunk.to_pylist()[0]["n_ratings"] for chunk in chunks] == sizes
    found = [row for chunk in chunks for row in decoded(chunk)]
    assert found == decoded(encode_chunk(table()))


def test_an_empty_partition_becomes_nothing() -> None:
    assert list(encode_partition([])) == []
    assert list(encode_partition(table([]).to_batches())) == []


@pytest.mark.parametrize(
    ("parts", "ids", "counts"),
    [
        ([], [], []),
        ([([], [])], [], []),
        ([([5, 1, 9], [2, 7, 2])], [1, 5, 9], [7, 2, 2]),
        ([([10, 9], [1, 1]), ([], []), ([9, 11], [1, 1])], [9, 10, 11], [2, 1, 1]),
        ([(["10", "9"], [1, 1]), (["9"], [1])], [9, 10], [2, 1]),
        ([(["10", "9"], [1, 1]), (["x"], [1])], ["10", "9", "x"], [1, 1, 1]),
        ([(["10", "09"], [1, 1]), ([9, 10], [1, 1])], ["10", "09", "9"], [2, 1, 1]),
        ([(["9", "10"], [1, 3]), ([9], [4])], [9, 10], [5, 3]),
        ([([str(2**63), "5"], [1, 1])], ["5", str(2**63)], [1, 1]),
    ],
    ids=["nothing", "empty", "one", "three", "text", "mixed text", "007", "both", "too large"],
)
def test_ids_are_numbered_by_falling_count_then_by_rising_id(
    parts: list[tuple[list[Any], list[int]]], ids: list[Any], counts: list[int]
) -> None:
    arrays = [
        (pa.array(part) if part else pa.array([], pa.int64()), np.array(count, np.int64))
        for part, count in parts
    ]
    index, found = merge_ids(arrays)
    assert (index.ids.to_pylist(), found.tolist()) == (ids, counts)


def a_summary(**changes: Any) -> Summary:
    ids = IdIndex(pa.array([1, 2]))
    counts = np.array([2, 1])
    usual = Summary(3, ids, ids, counts, counts, 1.0, 5.0, BadRowCounts({}, {}))
    return dataclasses.replace(usual, **changes)


ONE = IdIndex(pa.array(["solo"]))
BAD = {
    "bad": BadRowCounts(
        {"rating is NaN": 1200, "user is missing": 1},
        {"rating is NaN": ["user=1", "user=2"], "user is missing": ["user=null"]},
    )
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            BAD,
            (
                r"^f: 1,201 unusable rows: rating is NaN \(1,200 rows, such as user=1 \| user=2\); "
                r"user is missing \(1 row, such as user=null\): mend the data, or set these rows "
                r'aside with `bad_rows="drop"`$'
            ),
        ),
        ({"n_ratings": 0}, r"^f: no ratings: give a source with ratings$"),
        (
            {"users": ONE},
            r'^f: all ratings are of one user \(solo\): .*; check `columns\["user"\]`$',
        ),
        (
            {"items": ONE},
            r'^f: all ratings are of one item \(solo\): .*; check `columns\["item"\]`$',
        ),
        (
            {"lowest": 5.0},
            r'^f: every rating is 5: there is nothing to learn; check `columns\["rating"\]`$',
        ),
    ],
    ids=["bad rows", "nothing", "one user", "one item", "constant"],
)
def test_what_stops_a_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_summary(a_summary(**changes), "f", "error")


def test_bad_rows_may_be_dropped_but_not_all() -> None:
    check_summary(a_summary(), "f", "error")
    check_summary(a_summary(**BAD), "f", "drop")
    message = r"^f: no ratings left after the unusable rows were dropped: give a source"
    with pytest.raises(DataError, match=message):
        check_summary(a_summary(n_ratings=0, **BAD), "f", "drop")


def fingerprint(rows: Sequence[tuple[Any, Any, float]]) -> str:
    """The fingerprint of one chunk of ratings, without Spark."""
    sides = [
        merge_ids([(pa.array([row[k] for row in rows]), np.ones(len(rows), np.int64))])
        for k in (0, 1)
    ]
    (users, user_counts), (items, item_counts) = sides
    values = [row[2] for row in rows]
    extremes = min(values), max(values)
    none = BadRowCounts({}, {})
    return Summary(len(rows), users, items, user_counts, item_counts, *extremes, none).fingerprint


RATED = [(1, "a", 1.0), (2, "a", 3.0), (2, "bc", 5.0), (12, "b", 2.0)]


def test_the_fingerprint_does_not_go_by_order_or_by_how_ids_are_stored() -> None:
    assert fingerprint(RATED).startswith("4-")
    assert fingerprint(RATED) == fingerprint(RATED[::-1])
    assert fingerprint(RATED) == fingerprint([(str(u), i, r) for u, i, r in RATED])


@pytest.mark.parametrize(
    "other",
    [
        RATED[:3],
        [(1, "a", 1.0), (2, "a", 3.0), (2, "bc", 4.0), (12, "b", 2.0)],
        [(1, "a", 1.0), (2, "a", 3.0), (12, "bc", 5.0), (12, "b", 2.0)],
        [(1, "a", 1.0), (2, "bc", 3.0), (2, "bc", 5.0), (12, "b", 2.0)],
        # The same letters in other ids.
        [(1, "ab", 1.0), (2, "ab", 3.0), (2, "c", 5.0), (12, "b", 2.0)],
        [(1, "a", 1.0), (21, "a", 3.0), (21, "bc", 5.0), (2, "b", 2.0)],
        [("1", "a", 1.0), ("02", "a", 3.0), ("02", "bc", 5.0), ("12", "b", 2.0)],
    ],
    ids=["fewer", "range", "user", "item", "letters", "digits", "zeros"],
)
def test_other_ratings_have_another_fingerprint(other: list[tuple[Any, Any, float]]) -> None:
    assert fingerprint(other) != fingerprint(RATED)
