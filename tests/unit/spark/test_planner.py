"""Placement, blocks and row costs from sizes alone; no cluster."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from als_spark.errors import ConfigError
from als_spark.solve.blocks import assign_rows
from als_spark.solve.routing import SHARED_ROW
from als_spark.spark.planner import (
    GRID_SHARE,
    LEAST_BYTES,
    LIBRARY_BYTES,
    MERGE_BYTES,
    SLICE_BYTES,
    WORKER_BYTES,
    Sizes,
    choose_blocks,
    choose_placement,
    half_step_bytes,
    place_rows,
    plan,
    row_costs,
    shared_rows,
    worker_limit,
)
from als_spark.types import SIDES

# Ratings of a block that fits into a worker while it is merged.
MOST = WORKER_BYTES // MERGE_BYTES
SOURCE_GRID = (1, 5, 20, 50) * 4
MOVIELENS_100K = Sizes(943, 1682, 80_000, SOURCE_GRID, 4, 2)
TEN_MILLION = Sizes(70_000, 10_700, 10_000_000, (50,), 4, 2)


class TestPlan:
    @pytest.mark.parametrize("sizes", [MOVIELENS_100K, TEN_MILLION])
    def test_auto_is_what_the_sizes_say(self, sizes):
        decided = plan(sizes)
        assert decided.placement == choose_placement(sizes)
        assert decided.sizes == sizes

    def test_what_every_worker_needs_whole_is_not_shuffled_by_itself(self):
        large = replace(TEN_MILLION, n_users=30_000_000)
        assert "shuffle" in plan(large, "ratings").exchange.values()
        whole = plan(large, "ratings", whole=True)
        assert whole.exchange == {"user": "broadcast", "item": "broadcast"}
        # Asked for, it is there to be refused.
        assert "shuffle" in plan(large, exchange="shuffle", whole=True).exchange.values()
        assert plan(MOVIELENS_100K, whole=True).placement == plan(MOVIELENS_100K).placement

    def test_the_grid_is_packed_whole(self):
        decided = plan(TEN_MILLION, "grid", partitions=7)
        assert (decided.placement, decided.n_blocks, decided.slice_bytes) == ("grid", 1, None)
        assert decided.exchange == {}

    def test_ratings_in_slices_of_blocks(self):
        decided = plan(MOVIELENS_100K, "ratings")
        assert (decided.placement, decided.n_blocks) == (
            "ratings",
            choose_blocks(MOVIELENS_100K),
        )
        assert decided.slice_bytes == SLICE_BYTES
        assert decided.exchange == {"user": "broadcast", "item": "broadcast"}
        assert plan(MOVIELENS_100K, "ratings", partitions=7).n_blocks == 7

    def test_the_exchange_of_each_side_by_the_size_of_the_other(self):
        # A quarter of 2 GB: 2.7 million rows of 50 float32.
        many = Sizes(3_000_000, 20_000, 10**8, (50,), 4, 8)
        assert plan(many).exchange == {"user": "broadcast", "item": "shuffle"}
        assert plan(replace(many, ranks=(5, 50))).exchange == plan(many).exchange
        assert plan(replace(many, ranks=(40,))).exchange == dict.fromkeys(SIDES, "broadcast")
        turned = replace(many, n_users=20_000, n_items=3_000_000)
        assert plan(turned).exchange == {"user": "shuffle", "item": "broadcast"}
        both = plan(replace(many, n_items=3_000_000))
        assert both.exchange == dict.fromkeys(SIDES, "shuffle")
        assert both.as_record()["exchange"] == {"user": "shuffle", "item": "shuffle"}
        # What has been asked for, and what ranking measures need, wins.
        for exchange in ("broadcast", "shuffle"):
            assert plan(both.sizes, exchange=exchange).exchange == dict.fromkeys(SIDES, exchange)
        for needs in ({"ranked": True}, {"accelerated": True}):
            # They need the items whole, not the users.
            assert plan(many, **needs).exchange == plan(many).exchange
            assert plan(turned, **needs, exchange="broadcast").exchange["user"] == "broadcast"
            large = replace(turned, n_items=5_000_000)
            assert plan(large, **needs).exchange == dict.fromkeys(SIDES, "broadcast")
            mixed = plan(replace(large, n_users=3_000_000), **needs).exchange
            assert mixed == {"user": "broadcast", "item": "shuffle"}
        mixed = {"user": "shuffle", "item": "broadcast"}
        assert plan(many, exchange=mixed).exchange == mixed
        # Factors travel where the ratings are partitioned.
        assert plan(MOVIELENS_100K, exchange="broadcast").placement == "ratings"

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"placement": "grid", "exchange": "shuffle"}, 'with `placement="grid"`'),
            ({"placement": "grid", "exchange": "broadcast"}, 'with `placement="grid"`'),
            ({"ranked": True, "exchange": "shuffle"}, "with ranking measures"),
            ({"ranked": True, "exchange": {"user": "shuffle", "item": "broadcast"}}, "ranking"),
            ({"accelerated": True, "exchange": "shuffle"}, 'auto"`, which shuffles the users'),
        ],
    )
    def test_choices_that_exclude_each_other(self, choices, words):
        with pytest.raises(ConfigError, match=words):
            plan(MOVIELENS_100K, **choices)

    def test_items_that_are_needed_whole_and_too_large_are_refused(self):
        huge = Sizes(1000, 6_000_000, 10**8, (50,), 4, 8)
        assert plan(huge).exchange["user"] == "shuffle"
        words = "^ranking measures and acceleration need .* 6,000,000 items take 1,144 MB"
        with pytest.raises(ConfigError, match=words):
            plan(huge, ranked=True, accelerated=True)
        assert plan(huge, accelerated=True, exchange="broadcast").exchange["user"] == "broadcast"

    def test_groups_of_models_by_what_a_block_gets(self):
        sizes = Sizes(1000, 2_000_000, 10**7, (50,) * 8, 4, 2)
        decided = plan(sizes, "ratings")
        assert decided.groups("user", sizes.ranks, 1000) == [slice(0, 8)]
        assert len(decided.groups("user", sizes.ranks)) > 1

    def test_groups_fit_a_worker_on_each_side(self):
        # Many items and few users: solving users takes more memory.
        sizes = Sizes(1000, 2_000_000, 10**7, (50,) * 8, 4, 2)
        decided = plan(sizes, "ratings")
        by_user, by_item = (decided.groups(side, sizes.ranks) for side in ("user", "item"))
        assert len(by_user) > len(by_item) == 1
        for group in by_user:
            assert half_step_bytes(sizes.n_items, sizes.ranks[group], 4) <= decided.worker_bytes
        assert decided.groups("user", [50]) == [slice(0, 1)]
        tight = replace(decided, worker_bytes=1)
        assert tight.groups("item", [50, 20]) == [slice(0, 1), slice(1, 2)]

    def test_the_record(self):
        record = plan(replace(MOVIELENS_100K, ranks=(5, 20)), "ratings", 3).as_record()
        assert record == {
            "placement": "ratings",
            "blocks_a_side": 3,
            "slice_bytes": SLICE_BYTES,
            "exchange": {"user": "broadcast", "item": "broadcast"},
            "worker_bytes": WORKER_BYTES,
            "models_a_job": {"user": [2], "item": [2]},
        }
        assert plan(MOVIELENS_100K, "grid").as_record()["models_a_job"] == {}

    def test_less_memory_for_workers(self):
        small = LIBRARY_BYTES + (64 << 20)
        assert plan(MOVIELENS_100K, worker_limit=small).placement == "grid"
        million = replace(MOVIELENS_100K, n_ratings=2_000_000)
        assert plan(million).placement == "grid"
        decided = plan(million, worker_limit=small)
        assert (decided.placement, decided.worker_bytes) == ("ratings", 64 << 20)
        assert decided.n_blocks == 4 > plan(million, "ratings").n_blocks
        # A limit that is no limit, and one that not even the libraries fit into.
        assert plan(million, worker_limit=1 << 40) == plan(million)
        assert plan(million, "grid", worker_limit=1).worker_bytes == LEAST_BYTES

    @pytest.mark.parametrize(
        ("conf", "limit"),
        [
            ({}, None),
            ({"spark.executor.pyspark.memory": ""}, None),
            ({"spark.executor.pyspark.memory": "2g"}, 2 << 30),
            ({"spark.executor.pyspark.memory": "2GB", "spark.executor.cores": "4"}, 1 << 29),
            ({"spark.executor.pyspark.memory": "1024"}, 1 << 30),
            ({"spark.executor.pyspark.memory": "512 m"}, None),
            ({"spark.executor.pyspark.memory": "1536k", "spark.executor.cores": "2"}, 768 << 10),
        ],
    )
    def test_what_spark_allows_a_worker(self, conf, limit):
        assert worker_limit(conf) == limit

    def test_it_cannot_be_changed(self):
        with pytest.raises(FrozenInstanceError):
            plan(MOVIELENS_100K).n_blocks = 9


class TestRowsInBlocks:
    def test_of_nearly_equal_work_with_shared_rows_in_none(self):
        counts = np.array([1000, 3, 2, 2, 1, 1, 1, 2])
        blocks = place_rows(counts, [4], 2)
        assert blocks[0] == SHARED_ROW
        assert set(blocks[1:].tolist()) == {0, 1}
        loads = np.bincount(blocks[1:], row_costs(counts[1:], [4]))
        assert np.ptp(loads) <= row_costs(counts[1:2], [4])[0]

    def test_one_block_has_all_rows(self):
        assert place_rows(np.array([9, 0, 1]), [4], 1).tolist() == [0, 0, 0]


class TestPlacement:
    def test_small_data_and_many_models(self):
        assert choose_placement(MOVIELENS_100K) == "grid"

    def test_large_data_and_one_model(self):
        assert choose_placement(TEN_MILLION) == "ratings"

    def test_one_core_has_nothing_to_share(self):
        assert choose_placement(replace(TEN_MILLION, cores=1)) == "grid"

    def test_one_small_model_is_not_worth_a_job_an_iteration(self):
        assert choose_placement(replace(MOVIELENS_100K, ranks=(5,), cores=8)) == "grid"

    def test_a_single_large_model_among_small_ones_decides(self):
        # Whole models end with the largest: one core would work while the others wait.
        assert choose_placement(replace(TEN_MILLION, ranks=(200, *[1] * 15), cores=16)) == "ratings"
        assert choose_placement(replace(TEN_MILLION, ranks=(50,) * 160, cores=16)) == "grid"

    @pytest.mark.parametrize("itemsize", [4, 8])
    def test_ratings_that_do_not_fit_a_worker(self, itemsize):
        # Twice an int32 index and a rating.
        most = (WORKER_BYTES // GRID_SHARE) // (2 * (4 + itemsize))
        fitting = Sizes(1000, 1000, most, (5,), itemsize, 1)
        assert fitting.packed_bytes <= (WORKER_BYTES // GRID_SHARE)
        assert choose_placement(fitting) == "grid"
        assert choose_placement(replace(fitting, n_ratings=most + 1)) == "ratings"

    def test_slow_traffic_of_factors(self):
        # Half-steps that would carry gigabytes of factors lose to whole models.
        wide = Sizes(3_000_000, 3_000_000, 6_000_000, (20,) * 8, 4, 8)
        assert choose_placement(wide) == "grid"


class TestBlocks:
    @pytest.mark.parametrize("cores", [1, 2, 7, 64])
    def test_as_many_as_cores_for_small_data(self, cores):
        assert choose_blocks(replace(MOVIELENS_100K, cores=cores)) == cores

    @pytest.mark.parametrize(
        ("n_ratings", "cores", "expected"),
        [
            (2 * MOST, 2, 2),
            (2 * MOST + 1, 2, 4),
            (20 * MOST, 8, 24),
            (MOST, 1, 1),
            (5 * MOST // 2, 1, 3),
        ],
    )
    def test_whole_rounds_of_blocks_that_can_be_merged(self, n_ratings, cores, expected):
        sizes = Sizes(10**6, 10**5, n_ratings, (20,), 4, cores)
        assert choose_blocks(sizes) == expected
        assert n_ratings / expected <= MOST
        assert expected % cores == 0

    def test_no_more_than_rows(self):
        assert choose_blocks(Sizes(5, 3, 12, (2,), 8, 64)) == 5
        assert choose_blocks(Sizes(3, 6, 12, (2,), 8, 64)) == 6

    def test_no_ratings(self):
        assert choose_blocks(Sizes(0, 0, 0, (2,), 8, 4)) == 1


class TestRowCosts:
    @pytest.mark.parametrize(
        ("n", "rank", "expected"),
        [
            (100, 10, 100 * 10**2 + 10**3 / 3),
            (10, 10, 10**3 + 10**3 / 3),
            (4, 10, 4**2 * 10 + 4**3 / 3),
            (1, 1, 1 + 1 / 3),
        ],
    )
    def test_cheaper_form_on_top_of_a_constant(self, n, rank, expected):
        empty, full = row_costs(np.array([0, n], np.int32), [rank])
        assert empty > 0
        assert full - empty == pytest.approx(expected, rel=1e-12)

    def test_models_add_up(self):
        degrees = np.array([1, 7, 300], np.int32)
        both = row_costs(degrees, [3, 40])
        np.testing.assert_allclose(both, row_costs(degrees, [3]) + row_costs(degrees, [40]))

    def test_rises_with_the_degree(self):
        costs = row_costs(np.arange(1, 200), SOURCE_GRID)
        assert (np.diff(costs) > 0).all()

    def test_large_degrees_do_not_overflow(self):
        (cost,) = row_costs(np.array([2**31 - 1], np.int32), [1000])
        assert cost == pytest.approx((2**31 - 1) * 1e6, rel=1e-3)

    def test_balances_the_ratings_as_well(self):
        # What the costs are for: blocks with nearly the same number of ratings.
        degrees = np.random.default_rng(0).zipf(1.6, 20_000).clip(max=5000).astype(np.int32)
        blocks = assign_rows(row_costs(degrees, [20]), 4)
        loads = np.bincount(blocks, weights=degrees)
        assert loads.max() <= 1.1 * loads.mean()


class TestSharedRows:
    def test_rows_with_more_work_than_a_block(self):
        costs = np.array([10.0, 1.0, 50.0, 1.0, 38.0])
        assert shared_rows(costs, 2).tolist() == []
        assert shared_rows(costs, 3).tolist() == [2, 4]
        assert shared_rows(costs, 10).tolist() == [2, 4]
        assert shared_rows(costs, 11).tolist() == [0, 2, 4]

    def test_one_block_shares_nothing(self):
        assert shared_rows(np.array([9.0, 1.0]), 1).tolist() == []
        assert shared_rows(np.array([9.0]), 1).tolist() == []

    def test_no_block_is_left_with_more_than_its_share_and_one_row(self):
        costs = np.random.default_rng(0).pareto(0.7, 500) + 1
        for n_blocks in (2, 5, 16):
            rest = costs.copy()
            rest[shared_rows(costs, n_blocks)] = 0
            blocks = assign_rows(rest, n_blocks)
            loads = np.bincount(blocks, rest, minlength=n_blocks)
            assert loads.max() <= costs.sum() / n_blocks + rest.max()
