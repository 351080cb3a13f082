"""The best items of each user, against all scores sorted."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.solve import topk as topn
from als_spark.solve.topk import SCORES_BYTES, Seen, top_items, top_of_groups
from tests.reference import brute_force_top

DTYPES = (np.float32, np.float64)


def draw(n_users, n_items, rank, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n_users, rank)).astype(dtype),
        rng.normal(size=(n_items, rank)).astype(dtype),
    )


def seen_of(lists) -> Seen:
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
    return Seen(indptr, np.array([item for items in lists for item in items], np.int32))


def check(users, items, top, seen=None) -> None:
    rows, scores = top_items(users, items, top, seen)
    left_out = None if seen is None else np.split(seen.indices, seen.indptr[1:-1])
    expected_rows, expected_scores = brute_force_top(users, items, top, left_out)
    assert rows.dtype == np.int32
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-12, atol=1e-13)


@pytest.fixture(params=["whole", "blocks"])
def blocks(request, monkeypatch) -> None:
    """Everything in one block, or in many small ones, none of them full at the end."""
    if request.param == "blocks":
        monkeypatch.setattr(topn, "BLOCK_ITEMS", 37)
        monkeypatch.setattr(topn, "SCORES_BYTES", 37 * 8 * 7)


@pytest.mark.usefixtures("blocks")
class TestAgainstBruteForce:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("top", [1, 3, 10, 64])
    @pytest.mark.parametrize("rank", [1, 2, 9])
    def test_random_factors(self, rank, top, dtype):
        check(*draw(45, 500, rank, dtype), top)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_seen_items_are_left_out(self, dtype):
        users, items = draw(40, 300, 5, dtype)
        rng = np.random.default_rng(1)
        lists = [rng.integers(0, 300, n) for n in rng.integers(0, 60, 40)]
        # The best of all for every user, one twice, and users who have seen nothing or all.
        best = top_items(users, items, 5).rows
        lists = [[*known, *own, own[0]] for known, own in zip(lists, best, strict=True)]
        lists[3], lists[4], lists[39] = [], list(range(300)), list(range(298))
        lists[5] += [-1, 300, 10_000]
        check(users, items, 10, seen_of(lists))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n_items", [0, 1, 4, 9, 10, 11])
    def test_fewer_items_than_wanted(self, n_items, dtype):
        users, items = draw(6, n_items, 3, dtype)
        check(users, items, 10)
        rows, scores = top_items(users, items, 10)
        assert (rows[:, n_items:] == -1).all()
        assert np.isnan(scores[:, n_items:]).all()

    def test_no_users(self):
        rows, scores = top_items(*draw(0, 5, 3), 2)
        assert rows.shape == scores.shape == (0, 2)

    def test_factors_of_two_dtypes(self):
        users, items = draw(20, 200, 4)
        check(users.astype(np.float32), items, 7)
        check(users, items.astype(np.float32), 7)


@pytest.mark.usefixtures("blocks")
class TestTies:
    """Exact ties go to the smaller row, however often they come."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_equal_rows_of_factors(self, dtype):
        users, items = draw(30, 20, 7, dtype)
        items = items[np.random.default_rng(0).integers(0, 20, 400)]
        check(users, items, 10)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_all_scores_equal(self, dtype):
        users, items = draw(9, 400, 7, dtype)
        users[::2] = 0
        check(users, items, 10)
        assert top_items(users, items, 3).rows[0].tolist() == [0, 1, 2]

    def test_scores_that_float32_cannot_tell_apart(self):
        # Exact in float64; the products of float32 round them all to one or two numbers.
        items = np.ones((200, 2), np.float32)
        items[:, 1] = np.random.default_rng(0).permutation(200) * 2.0**-30
        users = np.array([[1, 1], [1, -1], [-1, 1]], np.float32)
        check(users, items, 10)


@pytest.mark.usefixtures("blocks")
class TestSizesOfNumbers:
    @pytest.mark.parametrize("scale", [1e-25, 1e-19, 1e15, 1e25])
    def test_float32_scores_that_float32_cannot_hold(self, scale):
        users, items = draw(20, 300, 4, np.float32)
        users, items = users * np.float32(scale), items * np.float32(scale)
        rows, scores = top_items(users, items, 10)
        expected_rows, expected_scores = brute_force_top(users, items, 10)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-12)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("side", [0, 1])
    def test_factors_that_are_not_finite(self, side, bad):
        factors = draw(5, 5, 2)
        factors[side][3, 1] = bad
        with pytest.raises(DataError, match="factors that are not finite given: train again"):
            top_items(*factors, 2)


class TestIndependence:
    """Not a bit of a user's answer depends on the company or on the blocks."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_other_users(self, dtype):
        users, items = draw(50, 700, 13, dtype)
        whole = top_items(users, items, 10)
        for part in (slice(0, 1), slice(7, 30), slice(49, 50)):
            rows, scores = top_items(users[part], items, 10)
            np.testing.assert_array_equal(rows, whole.rows[part])
            np.testing.assert_array_equal(scores, whole.scores[part])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_the_blocks(self, dtype, monkeypatch):
        users, items = draw(50, 700, 13, dtype)
        whole = top_items(users, items, 10)
        for width, height in ((1, 1), (100, 3), (699, 49), (700, 50)):
            monkeypatch.setattr(topn, "BLOCK_ITEMS", width)
            monkeypatch.setattr(topn, "SCORES_BYTES", width * height * users.itemsize)
            rows, scores = top_items(users, items, 10)
            np.testing.assert_array_equal(rows, whole.rows)
            np.testing.assert_array_equal(scores, whole.scores)

    def test_inputs_are_not_modified(self):
        users, items = draw(5, 50, 3)
        seen = seen_of([[1, 2]] * 5)
        for array in (users, items, *seen):
            array.flags.writeable = False
        top_items(users, items, 4, seen)


class TestErrors:
    @pytest.mark.parametrize("top", [0, -3])
    def test_nothing_wanted(self, top):
        with pytest.raises(ConfigError, match=f"top={top}: not usable: ask for at least one item"):
            top_items(*draw(2, 2, 2), top)

    def test_factors_of_two_models(self):
        with pytest.raises(ConfigError, match="ranks 2 and 3 given: both sides must come from one"):
            top_items(draw(2, 2, 2)[0], draw(2, 2, 3)[1], 1)


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("top", [2500, 10_000])
    def test_is_bounded_if_all_items_are_wanted(self, top, monkeypatch):
        monkeypatch.setattr(topn, "SCORES_BYTES", SCORES_BYTES // 32)
        monkeypatch.setattr(topn, "BLOCK_ITEMS", 100)
        users, items = draw(1000, 2500, 4, np.float32)
        gc.collect()
        tracemalloc.start()
        try:
            found = top_items(users, items, top)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # A result that is padded is held beside what it is padded from; else a mask of its places.
        beside = (12 if top > 2500 else 1) * 1000 * 2500
        assert peak < sum(part.nbytes for part in found) + beside + 16 * topn.SCORES_BYTES
        assert (found.rows[:, 2500:] == -1).all()

    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize(("n_users", "n_items"), [(2500, 2500), (120, 40_000)])
    def test_is_bounded_whatever_the_sizes_and_ties(self, n_users, n_items, tied, monkeypatch):
        # Small enough for the ties, each of which is scored, to be soon done.
        monkeypatch.setattr(topn, "SCORES_BYTES", SCORES_BYTES // 8)
        monkeypatch.setattr(topn, "BLOCK_ITEMS", topn.BLOCK_ITEMS // 8)
        users, items = draw(n_users, n_items, 8, np.float32)
        if tied:
            users[:20] = 0
        gc.collect()
        tracemalloc.start()
        try:
            found = top_items(users, items, 10)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        results = sum(part.nbytes for part in found) + 3 * 8 * (n_users + n_items)
        transposed = topn.BLOCK_ITEMS * items[0].nbytes
        allowed = results + transposed + (16 if tied else 3) * topn.SCORES_BYTES
        assert peak < allowed
        assert tied or allowed < n_users * n_items * 4 / 5, "all scores would pass too"


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 9], [5, 5, 10]])
@pytest.mark.parametrize("top", [1, 4, 12])
def test_items_in_groups_are_those_of_one(cuts: list[int], top: int) -> None:
    rng = np.random.default_rng(7)
    # Numbers that are alike: ties within groups and across them.
    users, items = rng.integers(0, 3, (6, 2)).astype(float), rng.integers(0, 3, (11, 2)) * 1.0
    indptr = np.array([0, 0, 3, 4, 4, 15, 16])
    indices = np.concatenate([[0, 4, 10], [-1], np.arange(11), [9]])
    for seen in (None, Seen(indptr, indices)):
        found = top_of_groups(users, iter(np.split(items, cuts)), top, seen)
        wanted = top_items(users, items, top, seen)
        np.testing.assert_array_equal(found.rows, wanted.rows)
        np.testing.assert_array_equal(found.scores, wanted.scores)
