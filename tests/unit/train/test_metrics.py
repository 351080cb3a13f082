"""Error sums, row statistics and cold starts, by cases small enough to do by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from als_spark.solve.blocks import build_block
from als_spark.train.metrics import (
    ErrorSums,
    EvaluationPart,
    SideStats,
    build_evaluation_part,
    row_sums,
)
from tests import reference
from tests.conftest import Triples

# Three users, three items; user 2 and item 2 have no training rating:
#
#            item 0  item 1  item 2
#   user 0     4       1       .       mean 2.5
#   user 1     5       .       .       mean 5
#   user 2     .       .       .
#   mean      4.5      1               all 10/3
USERS = np.array([0, 0, 1])
ITEMS = np.array([0, 1, 0])
RATINGS = np.array([4.0, 1.0, 5.0])
USER_FACTORS = np.array([[1.0, 0.0], [2.0, 1.0], [1.0, 1.0]])
ITEM_FACTORS = np.array([[3.0, 1.0], [0.0, 2.0], [0.5, 0.0]])

# A held-out rating of every kind, and what each strategy predicts for it.
HELD_OUT = {
    "warm": (1, 1, 3.0),  # 2·0 + 1·2 = 2
    "cold item": (1, 2, 2.0),  # the user's mean 5; factors 1
    "cold user": (2, 1, 4.0),  # the item's mean 1; factors 2
    "cold both": (2, 2, 1.0),  # the mean of all, 10/3; factors 0.5
}


def train_block():
    return build_block(USERS, ITEMS, RATINGS, n_rows=3, n_columns=3)


def part_of(names, cold_start, dtype=np.float64) -> EvaluationPart:
    users, items, ratings = (
        np.array(column) for column in zip(*(HELD_OUT[name] for name in names), strict=True)
    )
    by_item = build_block(ITEMS, USERS, RATINGS, n_rows=3, n_columns=3)
    return build_evaluation_part(
        "test",
        users,
        items,
        ratings,
        stats={"user": SideStats.of(3, [train_block()]), "item": SideStats.of(3, [by_item])},
        cold_start=cold_start,
        dtype=dtype,
    )


class TestColdStart:
    @pytest.mark.parametrize(
        ("name", "error"),
        [("warm", 1.0), ("cold item", -3.0), ("cold user", 3.0), ("cold both", 1 - 10 / 3)],
    )
    def test_mean(self, name, error):
        sums = part_of([name], "mean").errors(USER_FACTORS, ITEM_FACTORS)
        assert (sums.squared, sums.absolute) == pytest.approx((error**2, abs(error)), rel=1e-12)
        assert (sums.count, sums.cold) == (1, int(name != "warm"))

    @pytest.mark.parametrize(
        ("name", "error"),
        [("warm", 1.0), ("cold item", 1.0), ("cold user", 2.0), ("cold both", 0.5)],
    )
    def test_initial(self, name, error):
        sums = part_of([name], "initial").errors(USER_FACTORS, ITEM_FACTORS)
        assert (sums.squared, sums.absolute) == pytest.approx((error**2, abs(error)), rel=1e-12)
        assert (sums.count, sums.cold) == (1, int(name != "warm"))

    @pytest.mark.parametrize("name", ["cold item", "cold user", "cold both"])
    def test_drop(self, name):
        sums = part_of([name], "drop").errors(USER_FACTORS, ITEM_FACTORS)
        assert sums == ErrorSums(0.0, 0.0, 0, 1)
        assert math.isnan(sums.means().mse)

    def test_drop_keeps_the_warm(self):
        sums = part_of(list(HELD_OUT), "drop").errors(USER_FACTORS, ITEM_FACTORS)
        assert sums == ErrorSums(1.0, 1.0, 1, 3)

    def test_all_together(self):
        sums = part_of(list(HELD_OUT), "mean").errors(USER_FACTORS, ITEM_FACTORS)
        assert sums.squared == pytest.approx(1 + 9 + 9 + (7 / 3) ** 2, rel=1e-12)
        assert sums.absolute == pytest.approx(1 + 3 + 3 + 7 / 3, rel=1e-12)
        assert (sums.count, sums.cold) == (4, 3)

    def test_cold_ratings_do_not_depend_on_the_model(self):
        part = part_of(["cold item", "cold user"], "mean")
        assert part.errors(USER_FACTORS, ITEM_FACTORS) == part.errors(
            7 * USER_FACTORS, ITEM_FACTORS
        )

    def test_nothing_held_out(self):
        empty = np.zeros(0, np.int64)
        stats = SideStats(np.ones(3, np.int32), np.ones(3))
        part = build_evaluation_part(
            "validation",
            empty,
            empty,
            np.zeros(0),
            stats={"user": stats, "item": stats},
            cold_start="mean",
        )
        assert part.split == "validation"
        assert part.errors(USER_FACTORS, ITEM_FACTORS) == ErrorSums()

    def test_dtype_of_the_block(self):
        assert part_of(["warm"], "mean", np.float32).block.ratings.dtype == np.float32


class TestSideStats:
    def test_by_hand(self):
        stats = SideStats.of(3, [train_block()])
        assert stats.degrees.tolist() == [2, 1, 0]
        assert stats.degrees.dtype == np.int32
        assert stats.sums.tolist() == [5.0, 5.0, 0.0]
        assert stats.means()[:2].tolist() == [2.5, 5.0]
        assert math.isnan(stats.means()[2])
        assert stats.mean == pytest.approx(10 / 3, rel=1e-15)

    def test_over_several_blocks(self, triples: Triples):
        users, items, ratings, n_users, n_items = triples
        sizes = {"n_rows": n_users, "n_columns": n_items}
        parts = [users % 3 == k for k in range(3)]
        blocks = [build_block(users[p], items[p], ratings[p], **sizes) for p in parts]
        stats = SideStats.of(n_users, blocks)
        for user in range(n_users):
            own = ratings[users == user]
            assert stats.degrees[user] == own.size
            assert stats.sums[user] == pytest.approx(own.sum(), rel=1e-12)
        assert stats.mean == pytest.approx(ratings.mean(), rel=1e-12)

    def test_without_any_rating(self):
        assert SideStats.of(2, []).mean == 0.0
        assert np.isnan(SideStats.of(2, []).means()).all()

    def test_sums_of_float32_ratings_are_in_float64(self):
        ratings = np.array([2.0**24, 1.0], np.float32)
        block = build_block(
            np.zeros(2, int), np.arange(2), ratings, n_rows=1, n_columns=2, dtype=np.float32
        )
        assert row_sums(block).tolist() == [2.0**24 + 1]


class TestErrorSums:
    def test_total_does_not_depend_on_the_order(self):
        parts = [ErrorSums(1e16, 0.1, 3, 1), ErrorSums(1.0, 0.2, 4, 0), ErrorSums(-1e16, 0.3, 5, 2)]
        for order in ([0, 1, 2], [2, 0, 1], [0, 2, 1]):
            sums = ErrorSums.by_split(("test", parts[k]) for k in order)
            assert sums == {"test": ErrorSums(1.0, math.fsum((0.1, 0.2, 0.3)), 12, 3)}

    def test_total_of_nothing(self):
        assert ErrorSums.by_split([]) == {}

    def test_means(self):
        means = ErrorSums(8.0, 4.0, 2, 1).means()
        assert (means.mse, means.mae, means.count, means.cold) == (4.0, 2.0, 2, 1)
        assert means.rmse == 2.0

    def test_means_of_nothing(self):
        means = ErrorSums(cold=3).means()
        assert math.isnan(means.mse)
        assert math.isnan(means.mae)
        assert (means.count, means.cold) == (0, 3)


def test_train_errors_against_the_twin(triples: Triples):
    users, items, ratings, n_users, n_items = triples
    rng = np.random.default_rng(0)
    user_factors, item_factors = rng.random((n_users, 4)), rng.random((n_items, 4))
    block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items)
    means = EvaluationPart("train", block).errors(user_factors, item_factors).means()
    expected = reference.errors(users, items, ratings, user_factors, item_factors)
    assert (means.mse, means.mae) == pytest.approx(expected, rel=1e-10)
    assert (means.count, means.cold) == (users.size, 0)
