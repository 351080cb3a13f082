"""Rating blocks: packing, bucketing, spreading over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve.blocks import (
    EXACT_WIDTH,
    PADDING_SHARE,
    assign_rows,
    build_block,
    cut_buckets,
    cut_runs,
    split_block,
)
from tests.conftest import Triples, random_triples

EMPTY = np.zeros(0, np.int32)


def block_of_degrees(degrees: list[int], n_columns: int | None = None, seed: int = 0):
    """A block whose row k has degrees[k] ratings of random columns."""
    rng = np.random.default_rng(seed)
    n_columns = n_columns or max(degrees) + 3
    rows = np.repeat(np.arange(len(degrees)), degrees)
    columns = np.concatenate([rng.choice(n_columns, n, replace=False) for n in degrees])
    ratings = rng.random(rows.size) + 0.5
    return build_block(rows, columns, ratings, n_rows=len(degrees), n_columns=n_columns)


class TestWorkedExample:
    """The module's docstring, literally."""

    @pytest.fixture
    def block(self):
        users = np.array([3, 0, 1, 3, 0])
        items = np.array([1, 2, 1, 0, 0])
        ratings = np.array([2.0, 3.0, 4.0, 1.0, 5.0])
        return build_block(users, items, ratings, n_rows=4, n_columns=3)

    def test_arrays(self, block):
        assert block.rows.tolist() == [1, 0, 3]
        assert block.degrees.tolist() == [1, 2, 2]
        assert block.bucket_rows.tolist() == [0, 1, 3]
        assert block.bucket_widths.tolist() == [1, 2]
        assert block.indices.tolist() == [1, 0, 2, 0, 1]
        assert block.ratings.tolist() == [4.0, 5.0, 3.0, 1.0, 2.0]

    def test_dtypes(self, block):
        assert block.rows.dtype == block.degrees.dtype == block.indices.dtype == np.int32
        assert block.bucket_rows.dtype == block.bucket_widths.dtype == np.int64
        assert block.ratings.dtype == np.float64

    def test_sizes(self, block):
        assert (block.n_columns, block.n_rows, block.n_ratings) == (3, 3, 5)

    def test_buckets_are_views(self, block):
        narrow, wide = block.buckets()
        assert (narrow.start, wide.start) == (0, 1)
        assert narrow.indices.tolist() == [[1]]
        assert narrow.ratings.tolist() == [[4.0]]
        assert wide.indices.tolist() == [[0, 2], [0, 1]]
        assert wide.ratings.tolist() == [[5.0, 3.0], [1.0, 2.0]]
        assert np.shares_memory(wide.indices, block.indices)
        assert np.shares_memory(wide.ratings, block.ratings)

    def test_triples(self, block):
        rows, columns, ratings = block.triples()
        assert rows.tolist() == [1, 0, 0, 3, 3]
        assert columns.tolist() == [1, 0, 2, 0, 1]
        assert ratings.tolist() == [4.0, 5.0, 3.0, 1.0, 2.0]


def test_padded_places_point_past_the_columns():
    # Degrees 9 and 10 share a bucket of width 10, so the first row has one padded place.
    block = block_of_degrees([10, 9], n_columns=12)
    assert block.bucket_widths.tolist() == [10]
    assert block.rows.tolist() == [1, 0]
    (bucket,) = block.buckets()
    assert bucket.indices[0, 9] == 12
    assert bucket.ratings[0, 9] == 0.0
    assert (bucket.indices[0, :9] < 12).all()
    assert (bucket.indices[1] < 12).all()
    assert block.n_ratings == 19


@pytest.mark.parametrize("seed", range(3))
def test_triples_round_trip(seed):
    users, items, ratings, n_users, n_items = random_triples(60, 80, 1500, seed)
    block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items)
    assert block.bucket_widths.max() > EXACT_WIDTH  # else there is no padding to leave out
    assert block.indices.size > block.n_ratings
    stored = sorted(zip(*(part.tolist() for part in block.triples()), strict=True))
    assert stored == sorted(zip(users.tolist(), items.tolist(), ratings.tolist(), strict=True))


def test_a_rating_of_zero_is_a_rating():
    block = build_block(
        np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.0, 2.0, 0.0]), n_rows=2, n_columns=2
    )
    assert block.n_ratings == 3
    rows, columns, ratings = block.triples()
    assert (rows.tolist(), columns.tolist()) == ([1, 0, 0], [1, 0, 1])
    assert ratings.tolist() == [0.0, 0.0, 2.0]


def test_rows_rise_by_degree_then_index_and_columns_rise_in_a_row(triples: Triples):
    users, items, ratings, n_users, n_items = triples
    block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items)
    counts = np.bincount(users, minlength=n_users)
    expected = sorted(np.flatnonzero(counts).tolist(), key=lambda row: (counts[row], row))
    assert block.rows.tolist() == expected
    assert block.degrees.tolist() == counts[expected].tolist()
    for bucket in block.buckets():
        gaps = np.diff(bucket.indices, axis=1)
        padded = bucket.indices[:, 1:] == n_items
        assert (gaps[~padded] > 0).all()


def test_order_of_the_triples_does_not_matter(triples: Triples):
    users, items, ratings, n_users, n_items = triples
    sizes = {"n_rows": n_users, "n_columns": n_items}
    shuffle = np.random.default_rng(1).permutation(users.size)
    one = build_block(users, items, ratings, **sizes)
    other = build_block(users[shuffle], items[shuffle], ratings[shuffle], **sizes)
    for name in ("rows", "degrees", "bucket_rows", "bucket_widths", "indices", "ratings"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_sorted_triples_need_no_sorting(triples: Triples):
    order = np.lexsort((triples.items, triples.users))
    parts = (triples.users, triples.items, triples.ratings)
    sizes = {"n_rows": triples.n_users, "n_columns": triples.n_items}
    sorted_block = build_block(*(part[order] for part in parts), **sizes, presorted=True)
    block = build_block(*parts, **sizes)
    for name in ("rows", "degrees", "bucket_rows", "bucket_widths", "indices", "ratings"):
        np.testing.assert_array_equal(getattr(sorted_block, name), getattr(block, name))


def test_dtype_of_the_ratings_and_untouched_arguments(triples: Triples):
    users, items, ratings, n_users, n_items = triples
    for array in (users, items, ratings):
        array.flags.writeable = False
    block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items, dtype=np.float32)
    assert block.ratings.dtype == np.float32


@pytest.mark.parametrize(("n_rows", "n_columns"), [(0, 0), (3, 2), (3, 0), (0, 2)])
def test_no_ratings(n_rows, n_columns):
    block = build_block(EMPTY, EMPTY, np.zeros(0), n_rows=n_rows, n_columns=n_columns)
    assert (block.n_rows, block.n_ratings, block.n_columns) == (0, 0, n_columns)
    assert list(block.buckets()) == []
    assert [part.size for part in block.triples()] == [0, 0, 0]


class TestCutBuckets:
    @pytest.mark.parametrize("seed", range(4))
    def test_padding_is_bounded_and_rows_are_covered(self, seed):
        rng = np.random.default_rng(seed)
        degrees = np.sort(np.minimum(rng.zipf(1.4, 3000), 20_000))
        bucket_rows, widths = cut_buckets(degrees)
        assert bucket_rows[0] == 0
        assert bucket_rows[-1] == degrees.size
        assert (np.diff(bucket_rows) > 0).all()
        assert (np.diff(widths) > 0).all()
        width_of = np.repeat(widths, np.diff(bucket_rows))
        padding = width_of - degrees
        assert (padding >= 0).all()
        assert (padding[width_of <= EXACT_WIDTH] == 0).all()
        assert (padding <= PADDING_SHARE * width_of).all()
        assert padding.any()

    def test_few_buckets_for_wide_rows(self):
        # Widths shrink by a tenth: from 20,000 to 8 that is log(2500) / log(1/0.9) = 75 steps.
        _, widths = cut_buckets(np.arange(1, 20_001))
        assert widths.size <= 75 + EXACT_WIDTH

    def test_every_narrow_width_has_its_own_bucket(self):
        degrees = np.repeat(np.arange(1, EXACT_WIDTH + 2), 2)
        bucket_rows, widths = cut_buckets(degrees)
        assert widths.tolist() == list(range(1, EXACT_WIDTH + 2))
        assert bucket_rows.tolist() == list(range(0, 2 * EXACT_WIDTH + 3, 2))

    def test_no_rows(self):
        bucket_rows, widths = cut_buckets(np.zeros(0, np.int64))
        assert bucket_rows.tolist() == [0]
        assert widths.size == 0


class TestAssignRows:
    @pytest.mark.parametrize("n_blocks", [1, 2, 3, 8, 17])
    @pytest.mark.parametrize("shape", ["even", "lognormal", "pareto"])
    def test_balance(self, n_blocks, shape):
        rng = np.random.default_rng(5)
        costs = {
            "even": np.ones(5000),
            "lognormal": rng.lognormal(0, 1.5, 5000),
            "pareto": rng.pareto(1.1, 5000) + 0.01,
        }[shape]
        blocks = assign_rows(costs, n_blocks)
        loads = np.bincount(blocks, weights=costs, minlength=n_blocks)
        # No spread can do better than the costliest row on its own.
        assert loads.max() <= max(1.05 * loads.mean(), costs.max())
        assert loads.size == n_blocks
        assert (loads > 0).all()

    def test_a_row_that_dominates_is_alone(self):
        costs = np.ones(101)
        costs[40] = 1000.0
        blocks = assign_rows(costs, 4)
        assert np.flatnonzero(blocks == blocks[40]).tolist() == [40]
        others = np.bincount(blocks, minlength=4)
        assert sorted(others.tolist()) == [1, 33, 33, 34]

    def test_the_many_cheap_rows_are_spread_too(self):
        # Far more rows than are placed one by one, and no two of the same cost.
        # Dealt there and not back, the first block would get 1.0 more than the last 2000 times.
        costs = np.arange(10_000.0, 0.0, -1.0)
        loads = np.bincount(assign_rows(costs, 5), weights=costs)
        assert loads.max() - loads.min() <= 100.0

    def test_every_row_has_a_block(self):
        blocks = assign_rows(np.random.default_rng(0).random(1000), 7)
        assert blocks.shape == (1000,)
        assert blocks.dtype == np.int32
        assert set(blocks.tolist()) == set(range(7))

    def test_more_blocks_than_rows(self):
        blocks = assign_rows(np.array([3.0, 1.0, 2.0]), 8)
        assert len(set(blocks.tolist())) == 3
        assert blocks.max() < 8

    def test_no_rows(self):
        assert assign_rows(np.zeros(0), 4).size == 0

    def test_costs_are_left_alone(self):
        costs = np.arange(10.0)
        costs.flags.writeable = False
        assert assign_rows(costs, 2).size == 10


# Buckets exact and padded, and one row longer than all others together.
RUN_DEGREES = [*range(1, 14), *[3] * 20, *[40] * 6, 90, 91, 95, 400]


class TestCutRuns:
    @pytest.mark.parametrize("max_places", [1, 7, 20, 64, 1000, 10**6])
    @pytest.mark.parametrize("first_bucket", [0, 3])
    def test_runs_cover_every_row_once_within_the_limit(self, max_places, first_bucket):
        block = block_of_degrees(RUN_DEGREES)
        widths = np.repeat(block.bucket_widths, np.diff(block.bucket_rows))
        runs = list(cut_runs(block, first_bucket, max_places))
        row, place = int(block.bucket_rows[first_bucket]), block.bucket_start(first_bucket)
        for run in runs:
            assert (run.rows.start, run.places.start) == (row, place)
            row, place = run.rows.stop, run.places.stop
            lengths = [width for n, width in run.segments for _ in range(n)]
            assert lengths == widths[run.rows].tolist()
            n_places = run.places.stop - run.places.start
            assert n_places == sum(lengths)
            assert n_places <= max_places or len(lengths) == 1
        assert (row, place) == (block.n_rows, block.indices.size)
        assert len(runs) < block.n_rows or max_places < 20

    def test_no_bucket_is_left(self):
        block = block_of_degrees(RUN_DEGREES)
        assert list(cut_runs(block, block.bucket_widths.size, 10)) == []


class TestSplitBlock:
    @pytest.mark.parametrize("max_bytes", [1, 100, 2000, 10**6])
    def test_slices_hold_every_rating_once(self, max_bytes):
        block = block_of_degrees(RUN_DEGREES)
        slices = list(split_block(block, max_bytes))
        for part in slices:
            assert part.n_columns == block.n_columns
            assert part.bucket_rows[-1] == part.n_rows
            assert np.diff(part.bucket_rows) @ part.bucket_widths == part.indices.size
            assert part.indices.base is not None  # a view
            assert part.indices.size * 12 <= max_bytes or part.n_rows == 1
        for whole, parts in zip(
            block.triples(), zip(*(part.triples() for part in slices), strict=True), strict=True
        ):
            np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert np.concatenate([p.degrees for p in slices]).tolist() == block.degrees.tolist()

    def test_whole(self):
        block = block_of_degrees([1, 2, 3])
        assert list(split_block(block, None)) == [block]

    @pytest.mark.parametrize("max_bytes", [None, 1, 100])
    def test_no_rows(self, max_bytes):
        block = build_block(EMPTY, EMPTY, np.zeros(0), n_rows=3, n_columns=3)
        assert list(split_block(block, max_bytes)) == []
