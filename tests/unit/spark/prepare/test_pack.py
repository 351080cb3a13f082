"""From chunks to blocks as the executors do it, on lists of batches; no Spark."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from operator import itemgetter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ChangedRatingsError
from als_spark.solve.routing import SHARED_ROW
from als_spark.spark.arrow import ids_to_bytes
from als_spark.spark.planner import place_rows
from als_spark.spark.prepare.encode import encode_chunk, encode_partition, merge_ids
from als_spark.spark.prepare.pack import (
    CHUNK_COLUMNS,
    HeldOut,
    HeldOutStats,
    Layout,
    PackOptions,
    Ratings,
    Repeated,
    SliceStats,
    build_evaluation_parts,
    cut_chunk,
    cut_partition,
    describe_entries,
    merge_block,
    merge_partition,
    train_slices,
)
from als_spark.spark.read.split import TEST, TRAIN, VALIDATION
from als_spark.spark.train.exchange import TrainSlice
from als_spark.train.metrics import SideStats
from tests.conftest import random_triples

SIDES = ("user", "item")
OPTIONS = PackOptions(SIDES, 2, "error", "float64", None)


def typed(rows):
    """Rows (user, item, rating, split, timestamp) as one table of usable, split ratings."""
    users, items, ratings, splits, times = zip(*rows, strict=True)
    return pa.table(
        {
            "user": pa.array(users),
            "item": pa.array(items),
            "rating": pa.array(ratings, pa.float64()),
            "timestamp": pa.array(times, pa.float64()),
            "split": pa.array(splits, pa.int8()),
            "bad": pa.nulls(len(rows), pa.string()),
        }
    )


def layout_of(rows, block_of):
    """A broadcast layout in which rows are numbered by rising id."""
    users, items = (pa.array(sorted({row[k] for row in rows})) for k in (0, 1))
    n = 2 * (max(max(block_of["user"]), max(block_of["item"]), 0) + 1)
    blocks = {side: np.array(block_of[side], np.int32) for side in SIDES}
    return SimpleNamespace(value=Layout(users, items, blocks, 100 + np.arange(n, dtype=np.int32)))


def shuffled(pieces):
    """What Spark's shuffle does: rows of record batches, by key."""
    rows = [row for batch in pieces for row in batch.to_pylist()]
    rows.sort(key=itemgetter("key"))
    return [
        [pickle.loads(row["piece"]) for row in group]
        for _, group in itertools.groupby(rows, key=itemgetter("key"))
    ]


def pack(rows, block_of, options=OPTIONS, *, chunk_rows=3):
    """Pack rows as Spark would; returns the entries of each partition."""
    tables = [typed(rows[k : k + chunk_rows]) for k in range(0, len(rows), chunk_rows)]
    chunks = [encode_chunk(table).select(CHUNK_COLUMNS) for table in tables]
    layout = layout_of(rows, block_of)
    pieces = cut_partition(chunks, options=options, layout=layout)
    return [
        list(merge_partition(part, options=options, layout=layout)) for part in shuffled(pieces)
    ]


def triples_of(entry):
    """The ratings of an entry as a set of (row, column, rating)."""
    arrays = entry.ratings.triples() if isinstance(entry, TrainSlice) else entry[1:]
    return set(zip(*(array.tolist() for array in arrays), strict=True))


# The worked example of the module.
EXAMPLE = [
    (0, 0, 5.0, TRAIN, None),
    (0, 2, 3.0, TRAIN, None),
    (1, 1, 4.0, TRAIN, None),
    (2, 1, 2.0, TRAIN, None),
]
BLOCKS = {"user": [0, 1, 0], "item": [0, 0, 1]}


def test_the_worked_example():
    partitions = pack(EXAMPLE, BLOCKS)
    found = {
        (entry.side, entry.number): triples_of(entry)
        for partition in partitions
        for entry in partition
    }
    assert found == {
        ("user", (0, 0)): {(0, 0, 5.0), (0, 2, 3.0), (2, 1, 2.0)},
        ("user", (1, 0)): {(1, 1, 4.0)},
        ("item", (0, 0)): {(0, 0, 5.0), (1, 1, 4.0), (1, 2, 2.0)},
        ("item", (1, 0)): {(2, 0, 3.0)},
    }
    assert all(not entry.shared for partition in partitions for entry in partition)


def test_a_shared_row_is_dealt_to_all_blocks_by_column():
    rows = [(0, item, float(item), TRAIN, None) for item in range(5)] + [(1, 0, 9.0, TRAIN, None)]
    first, second, *by_item = pack(rows, {"user": [SHARED_ROW, 1], "item": [0, 0, 0, 1, 1]})
    assert [(entry.number, entry.shared, triples_of(entry)) for entry in first] == [
        ((0, 0), True, {(0, 0, 0.0), (0, 2, 2.0), (0, 4, 4.0)})
    ]
    assert [(entry.number, entry.shared, triples_of(entry)) for entry in second] == [
        ((1, 0), False, {(1, 0, 9.0)}),
        ((1, 1), True, {(0, 1, 1.0), (0, 3, 3.0)}),
    ]
    assert sum(len(triples_of(entry)) for partition in by_item for entry in partition) == 6


def test_held_out_ratings_come_with_the_blocks_of_users_alone():
    rows = [
        *EXAMPLE,
        (0, 1, 1.0, TEST, None),
        (2, 2, 1.5, TEST, None),
        (1, 2, 2.5, VALIDATION, None),
    ]
    partitions = pack(rows, BLOCKS)
    held = [
        [(e.split, triples_of(e)) for e in partition if isinstance(e, HeldOut)]
        for partition in partitions
    ]
    assert held == [
        [("test", {(0, 1, 1.0), (2, 2, 1.5)})],
        [("validation", {(1, 2, 2.5)})],
        [],
        [],
    ]
    train = {
        triple
        for partition in partitions[:2]
        for entry in partition
        if isinstance(entry, TrainSlice)
        for triple in triples_of(entry)
    }
    assert train == {row[:3] for row in EXAMPLE}


@pytest.mark.parametrize(
    ("duplicates", "expected"),
    [("error", [3.0]), ("mean", [3.0]), ("last", [1.0]), ("keep", [5.0, 3.0, 1.0])],
)
def test_repeated_pairs_are_resolved_and_told_of_once(duplicates, expected):
    rows = [(0, 0, 5.0, TRAIN, 10.0), *((*row[:4], 1.0) for row in EXAMPLE[1:])]
    rows += [(0, 0, 1.0, TRAIN, 30.0), (0, 0, 3.0, TRAIN, 20.0)]
    partitions = pack(rows, BLOCKS, replace(OPTIONS, duplicates=duplicates))
    repeated = [e for partition in partitions for e in partition if isinstance(e, Repeated)]
    assert repeated == [Repeated(1, [(0, 0)])]
    for partition in (partitions[0], partitions[2]):
        (values,) = [
            [
                triple[2]
                for triple in zip(*(a.tolist() for a in entry.ratings.triples()), strict=True)
                if triple[:2] == (0, 0)
            ]
            for entry in partition
            if isinstance(entry, TrainSlice)
        ]
        # Those that are kept are in the order of their times.
        assert values == expected


def test_a_missing_time_is_the_earliest_also_if_its_chunk_has_none():
    rows = [(0, 0, 5.0, TRAIN, None), (0, 2, 3.0, TRAIN, None), (1, 1, 4.0, TRAIN, 5.0)]
    rows += [(2, 1, 2.0, TRAIN, 5.0), (0, 0, 1.0, TRAIN, -7.0), (1, 1, 2.0, TRAIN, None)]
    for order in (rows, rows[::-1]):
        partitions = pack(order, BLOCKS, replace(OPTIONS, duplicates="last"), chunk_rows=2)
        train = set().union(
            *(triples_of(e) for p in partitions[:2] for e in p if isinstance(e, TrainSlice))
        )
        assert train == {(0, 0, 1.0), (0, 2, 3.0), (1, 1, 4.0), (2, 1, 2.0)}


def test_slices_are_of_bounded_size_and_numbered():
    t = random_triples()
    rows = [
        (u, i, r, TRAIN, None)
        for u, i, r in zip(t.users.tolist(), t.items.tolist(), t.ratings.tolist(), strict=True)
    ]
    options = replace(OPTIONS, sides=("user",), n_blocks=1, slice_bytes=1000)
    present = {"user": {r[0] for r in rows}, "item": {r[1] for r in rows}}
    block_of = {side: [0] * len(present[side]) for side in SIDES}
    (entries,) = pack(rows, block_of, options, chunk_rows=70)
    assert len(entries) > 3
    assert [entry.number for entry in entries] == [(0, k) for k in range(len(entries))]
    assert sum(entry.ratings.n_ratings for entry in entries) == 400


@pytest.mark.parametrize("n_blocks", [1, 3, 7])
def test_whatever_the_chunks_and_blocks_every_rating_is_there_once(n_blocks):
    t = random_triples(seed=3)
    rng = np.random.default_rng(0)
    splits = rng.choice([TRAIN, VALIDATION, TEST], t.users.size)
    rows = [
        (f"u{u}", i - 5, r, s, None)
        for u, i, r, s in zip(
            *(a.tolist() for a in (t.users, t.items, t.ratings, splits)), strict=True
        )
    ]
    chunks = list(encode_partition(typed(rows).to_batches(max_chunksize=64)))
    ids = {side: sorted({row[k] for row in rows}) for k, side in enumerate(SIDES)}
    block_of = {
        side: place_rows(np.ones(len(ids[side]), np.int64), [3], n_blocks) for side in SIDES
    }
    layout = SimpleNamespace(
        value=Layout(
            pa.array(ids["user"]),
            pa.array(ids["item"]),
            block_of,
            np.arange(2 * n_blocks, dtype=np.int32),
        )
    )
    options = replace(OPTIONS, n_blocks=n_blocks)
    pieces = cut_partition(
        [chunk.select(CHUNK_COLUMNS) for chunk in chunks], options=options, layout=layout
    )
    found = []
    for part in shuffled(pieces):
        for entry in merge_partition(part, options=options, layout=layout):
            if isinstance(entry, TrainSlice):
                assert (block_of[entry.side][entry.ratings.rows] == entry.number[0]).all()
                split = TRAIN
            else:
                split = {"validation": VALIDATION, "test": TEST}[entry.split]
            for row, column, value in triples_of(entry):
                side = getattr(entry, "side", "user")
                user, item = (row, column) if side == "user" else (column, row)
                found.append((side, ids["user"][user], ids["item"][item], value, split))
    expected = [("user", *row[:4]) for row in rows]
    expected += [("item", *row[:4]) for row in rows if row[3] == TRAIN]
    assert sorted(found) == sorted(expected)


def test_a_chunk_is_cut_into_a_piece_for_each_block():
    ratings = Ratings(
        np.array([2, 0, 1, 0], np.uint16),
        np.array([0, 1, 2, 3], np.uint16),
        np.array([9, 8, 7, 6], np.uint8),
        np.zeros(0, np.int8),
        np.array([1.0, 2.0, 3.0, 4.0]),
    )
    batch = cut_chunk(ratings, b"levels", np.array([1, 0, 1]), np.array([40, 41, 42]), 6)
    assert batch.column("key").to_pylist() == [40, 41, 42]
    pieces = [pickle.loads(piece) for piece in batch.column("piece").to_pylist()]
    assert [(p.target, p.n_ratings) for p in pieces] == [(6, 1), (7, 3), (8, 0)]
    assert all(p.levels == b"levels" and p.splits == b"" for p in pieces)
    assert np.frombuffer(pieces[1].rows, np.uint16).tolist() == [2, 0, 0]
    assert np.frombuffer(pieces[1].ratings, np.uint8).tolist() == [9, 8, 6]
    assert np.frombuffer(pieces[0].timestamps).tolist() == [3.0]
    assert pieces[2].rows == b""


def test_an_empty_block_has_no_rows():
    none = Ratings(*(np.zeros(0, kind) for kind in (np.int32, np.int32, float, np.int8, float)))
    entries = list(merge_block("user", 0, [none], np.zeros(3, np.int32), 4, OPTIONS))
    assert sum(entry.ratings.n_ratings for entry in entries) == 0
    assert all(isinstance(entry, TrainSlice) for entry in entries)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"n_ratings": -1, "bad": "a.csv has changed"}, r"\(a\.csv has changed\)"),
        ({"users": ids_to_bytes(pa.array([0, 1, 77]))}, r"\(an id of the users is new\)"),
        ({"items": ids_to_bytes(pa.array([77, 78, 79]))}, r"\(an id of the items is new\)"),
    ],
)
def test_chunks_that_were_not_numbered_are_refused(changed, reason):
    (chunk,) = encode_chunk(typed(EXAMPLE)).select(CHUNK_COLUMNS).to_pylist()
    again = pa.RecordBatch.from_pylist([chunk | changed])
    with pytest.raises(ChangedRatingsError, match=reason):
        list(cut_partition([again], options=OPTIONS, layout=layout_of(EXAMPLE, BLOCKS)))


def test_nothing_comes_of_nothing():
    layout = layout_of(EXAMPLE, BLOCKS)
    assert list(cut_partition([], options=OPTIONS, layout=layout)) == []
    assert list(merge_partition([], options=OPTIONS, layout=layout)) == []


class TestEntries:
    rows = (*EXAMPLE, (0, 1, 1.0, TEST, None), (0, 2, 4.0, TRAIN, None))

    @pytest.fixture
    def entries(self):
        (first, *_) = pack(list(self.rows), BLOCKS, replace(OPTIONS, duplicates="mean"))
        return first

    def test_are_described(self, entries):
        found = list(describe_entries(entries))
        repeated, part, held = found
        assert repeated == Repeated(1, [(0, 2)])
        assert isinstance(part, SliceStats)
        order = np.argsort(part.rows)
        assert (part.side, part.number, part.shared) == ("user", (0, 0), False)
        assert part.rows[order].tolist() == [0, 2]
        assert part.degrees[order].tolist() == [2, 1]
        assert part.sums[order].tolist() == [8.5, 2.0]
        assert held == HeldOutStats("test", 1)

    def test_training_ratings_are_passed_on(self, entries):
        (part,) = train_slices(entries)
        assert triples_of(part) == {(0, 0, 5.0), (0, 2, 3.5), (2, 1, 2.0)}

    def test_held_out_ratings_become_evaluation_parts(self, entries):
        stats = {
            "user": SideStats(np.array([2, 1, 1], np.int32), np.array([8.5, 4.0, 2.0])),
            "item": SideStats(np.array([1, 0, 1], np.int32), np.array([5.0, 0.0, 3.5])),
        }
        broadcast = SimpleNamespace(value=stats)
        (cold,) = build_evaluation_parts(
            entries, stats=broadcast, cold_start="mean", dtype="float64"
        )
        # The item is cold: predicted by the mean of its user.
        assert (cold.split, cold.block.n_ratings, cold.constant.cold) == ("test", 0, 1)
        assert cold.constant.squared == pytest.approx((1.0 - 4.25) ** 2)
        (kept,) = build_evaluation_parts(
            entries, stats=broadcast, cold_start="initial", dtype="float32"
        )
        assert kept.block.triples()[2].tolist() == [1.0]


def test_ids_of_both_sides_may_be_text():
    rows = [("b", "y", 1.0, TRAIN, None), ("a", "x", 2.0, TRAIN, None)]
    index, counts = merge_ids([(pa.array(["b", "a"]), np.array([1, 1]))])
    assert (index.ids.to_pylist(), counts.tolist()) == (["a", "b"], [1, 1])
    partitions = pack(rows, {"user": [0, 1], "item": [0, 1]})
    assert [triples_of(e) for p in partitions for e in p] == [
        {(0, 0, 2.0)},
        {(1, 1, 1.0)},
        {(0, 0, 2.0)},
        {(1, 1, 1.0)},
    ]
