"""The one pass over the ratings: chunks, counts, the numbering of ids, what stops a run."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.model.ids import IdIndex
from als_spark.spark.prepare import encode as encoding
from als_spark.spark.prepare.encode import (
    CHUNK_FIELDS,
    Summary,
    check_summary,
    encode_chunk,
    encode_partition,
    encode_ratings,
    ids_from_bytes,
    ids_to_bytes,
    merge_ids,
    summarise,
)
from als_spark.spark.prepare.narrow import decode_values, widen
from als_spark.spark.prepare.prepare import prepare_ratings, source_from_frame
from als_spark.spark.prepare.prepared import PrepareOptions
from als_spark.spark.read.validation import SplitOptions, typed_ratings, with_random_split
from als_spark.spark.train.run import train_grid
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.loop import TrainingOptions
from als_spark.train.records import IterationRecord
from tests.conftest import Triples, random_triples

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


def decoded(chunk: pa.RecordBatch) -> list[Row]:
    """The ratings of a chunk, as rows (user, item, rating, split, timestamp)."""
    (row,) = chunk.to_pylist()
    columns = []
    for role in ("user", "item"):
        ids = ids_from_bytes(row[f"{role}s"]).to_pylist()
        codes = widen(row[f"{role}_codes"], row["n_ratings"])
        assert np.array_equal(
            np.frombuffer(row[f"{role}_counts"], np.int64), np.bincount(codes, minlength=len(ids))
        )
        columns.append([ids[code] for code in codes])
    columns.append(decode_values(row["ratings"], row["levels"]).tolist())
    splits = np.frombuffer(row["splits"], np.int8).tolist()
    columns.append(splits or [0] * len(columns[0]))
    times = np.frombuffer(row["timestamps"], np.float64).tolist()
    columns.append(times or [None] * len(columns[0]))
    assert row["n_ratings"] == len(columns[0])
    return list(zip(*columns, strict=True))


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
    problems = zip(row["problems"], row["problem_counts"], row["examples"], strict=True)
    assert sorted(problems) == [
        ("rating is missing", 1, "user=3, item=b"),
        ("user is missing", 2, "user=null, item=a\nuser=null, item=c"),
    ]


def test_a_chunk_without_timestamps_keeps_none() -> None:
    rows = [(*row[:3], None, *row[4:]) for row in ROWS]
    (row,) = encode_chunk(table(rows)).to_pylist()
    assert row["timestamps"] == b""
    # One missing among others would mean nothing.
    (row,) = encode_chunk(table([ROWS[0], rows[1]])).to_pylist()
    assert row["timestamps"] == b""


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
    examples = row["examples"][0].split("\n")
    assert [example[:3] for example in examples] == ["0 x", "1 x", "2 x"]
    assert all(len(example) <= 160 for example in examples)
    assert all(example.endswith("x in f.csv") for example in examples)
    assert row["problem_counts"] == [9]


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
    "ids",
    [pa.array([3, -(2**63)], pa.int64()), pa.array(["007", "é", ""]), pa.array([], pa.int64())],
)
def test_ids_survive_as_bytes(ids: pa.Array) -> None:
    assert ids_from_bytes(ids_to_bytes(ids)).equals(ids)


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


def ratings_of(
    spark: SparkSession, rows: Iterable[Row], types: str = "user int, item string, rating double"
) -> DataFrame:
    typed = typed_ratings(
        source_from_frame(spark.createDataFrame(list(rows), types)), need_timestamp=False
    )
    return with_random_split(typed, SplitOptions())


def rows_of(t: Triples) -> list[Row]:
    return [
        (int(user) - 3, f"i{item}", float(rating))
        for user, item, rating in zip(t.users, t.items, t.ratings, strict=True)
    ]


@pytest.mark.parametrize("n_partitions", [1, 3, 8])
def test_the_summary_against_a_count_by_hand(n_partitions: int, spark: SparkSession) -> None:
    good = rows_of(random_triples(seed=4))
    bad = [(None, "i1", 9.0), (1, "", 9.0), (1, " ", -9.0), (2, "i3", None)]
    mixed = [*good[:100], *bad, *good[100:]]

    summary = summarise(encode_ratings(ratings_of(spark, mixed).repartition(n_partitions)))

    for found, counts, position in (
        (summary.users, summary.user_counts, 0),
        (summary.items, summary.item_counts, 1),
    ):
        by_hand = Counter(row[position] for row in good)
        order = sorted(by_hand, key=lambda name: (-by_hand[name], name))
        assert found.ids.to_pylist() == order
        assert counts.tolist() == [by_hand[name] for name in order]
    values = [row[2] for row in good]
    assert (summary.n_ratings, summary.lowest, summary.highest) == (400, min(values), max(values))
    assert list(summary.problems.items()) == [
        ("item is missing", 2),
        ("rating is missing", 1),
        ("user is missing", 1),
    ]
    assert summary.n_bad == 4
    assert summary.examples == {
        "item is missing": ["user=1, item= , rating=-9.0", "user=1, item=, rating=9.0"],
        "rating is missing": ["user=2, item=i3, rating=null"],
        "user is missing": ["user=null, item=i1, rating=9.0"],
    }


def test_the_summary_of_nothing(spark: SparkSession) -> None:
    summary = summarise(encode_ratings(ratings_of(spark, [])))
    assert (summary.n_ratings, len(summary.users), len(summary.items)) == (0, 0, 0)
    assert (summary.lowest, summary.highest) == (np.inf, -np.inf)
    assert (summary.problems, summary.examples) == ({}, {})


def test_examples_of_many_partitions_are_still_three(spark: SparkSession) -> None:
    bad = [(None, f"i{k}", 1.0) for k in range(20)]
    summary = summarise(encode_ratings(ratings_of(spark, bad).repartition(5)))
    assert summary.problems == {"user is missing": 20}
    assert len(summary.examples["user is missing"]) == 3


def test_chunks_hold_every_rating_once(spark: SparkSession) -> None:
    rows = rows_of(random_triples(seed=5))
    ratings = ratings_of(spark, rows).repartition(3)
    chunks = encode_ratings(ratings).toLocalIterator()
    found = []
    for chunk in chunks:
        values = {name: [chunk[name]] for name in CHUNK_FIELDS.names}
        batch = pa.RecordBatch.from_pydict(values, schema=CHUNK_FIELDS)
        found += [row[:4] for row in decoded(batch)]
    assert_df_equality(
        spark.createDataFrame(found, "user bigint, item string, rating double, split tinyint"),
        ratings.select("user", "item", "rating", "split"),
        ignore_nullable=True,
        ignore_row_order=True,
    )


def a_summary(**changes: Any) -> Summary:
    ids = IdIndex(pa.array([1, 2]))
    counts = np.array([2, 1])
    usual = Summary(3, ids, ids, counts, counts, 1.0, 5.0, {}, {})
    return dataclasses.replace(usual, **changes)


ONE = IdIndex(pa.array(["solo"]))
BAD = {
    "problems": {"rating is NaN": 1200, "user is missing": 1},
    "examples": {"rating is NaN": ["user=1", "user=2"], "user is missing": ["user=null"]},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            BAD,
            (
                r"^f: 1,201 unusable rows: rating is NaN \(1,200 rows, such as user=1 \| user=2\); "
                r"user is missing \(1 row, such as user=null\): mend the data, or set these rows "
                r"aside with --bad-rows drop$"
            ),
        ),
        ({"n_ratings": 0}, r"^f: no ratings: give a source with ratings$"),
        ({"users": ONE}, r"^f: all ratings are of one user \(solo\): .*; check --user-col$"),
        ({"items": ONE}, r"^f: all ratings are of one item \(solo\): .*; check --item-col$"),
        ({"lowest": 5.0}, r"^f: every rating is 5: there is nothing to learn; check --rating-col$"),
    ],
    ids=["bad rows", "nothing", "one user", "one item", "constant"],
)
def test_what_stops_a_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_summary(a_summary(**changes), "f", drop_bad_rows=False)


def test_bad_rows_may_be_dropped_but_not_all() -> None:
    check_summary(a_summary(), "f", drop_bad_rows=False)
    check_summary(a_summary(**BAD), "f", drop_bad_rows=True)
    message = r"^f: no ratings left after the unusable rows were dropped: give a source"
    with pytest.raises(DataError, match=message):
        check_summary(a_summary(n_ratings=0, **BAD), "f", drop_bad_rows=True)


# ---------------------------------------------------------------------------------- the canary


def refuse(self: object, protocol: object = None) -> NoReturn:
    raise pickle.PicklingError("the canary: this belongs to the driver")


class CanaryText(str):
    __slots__ = ()
    __reduce_ex__ = refuse


class CanaryDict(dict[str, str]):
    __reduce_ex__ = refuse


class CanaryList(list[Any]):
    __reduce_ex__ = refuse


class CanaryCallback:
    """Counts the iterations it is told of."""

    __reduce_ex__ = refuse
    heard = 0

    def __call__(self, record: IterationRecord) -> None:
        self.heard += 1


@pytest.mark.parametrize(
    "canary",
    [CanaryText("x"), CanaryDict(), CanaryList(), CanaryCallback()],
    ids=lambda canary: type(canary).__name__,
)
def test_a_canary_sings_in_a_closure(canary: object, spark: SparkSession) -> None:
    numbers = spark.sparkContext.parallelize([1], 1)
    with pytest.raises(pickle.PicklingError, match="the canary"):
        numbers.map(lambda number: (number, canary)).collect()


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_nothing_of_the_driver_goes_to_the_executors(
    placement: Any, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = spark.createDataFrame(rows_of(random_triples()), "user int, item string, rating double")
    source = dataclasses.replace(
        source_from_frame(frame),
        columns=CanaryDict({"user": "user", "item": "item", "rating": "rating"}),
        label=CanaryText("ratings"),
    )
    options = PrepareOptions(
        ranks=CanaryList([1, 2]), placement=placement, partitions=3, dtype="float64"
    )
    # What is known of the ratings is large, and must be broadcast or left at home.
    monkeypatch.setattr(Summary, "__reduce_ex__", refuse)
    monkeypatch.setattr(PrepareOptions, "__reduce_ex__", refuse)
    callback, collector = CanaryCallback(), SweepCollector("test")
    with prepare_ratings(spark, source, options) as prepared:
        specs = CanaryList(grid_specs([1, 2], [1.0]))
        train_grid(
            spark, prepared, specs, TrainingOptions(max_iter=3), collector, on_iteration=callback
        )
    outcome = collector.outcome()
    assert outcome is not None
    assert len(outcome.points) == 2
    assert callback.heard > 0
