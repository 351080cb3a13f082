"""A worker's memory in a half-step: what is computed is enough, and does not grow with the data.

NumPy's allocations are traced, the objects of a partition are made one at a time, as on Spark.
"""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.solve.blocks import RatingBlock, build_block, split_block
from als_spark.solve.gram import WORKSPACE_BYTES
from als_spark.solve.objective import Objective
from als_spark.spark.planner import (
    MERGE_BYTES,
    SLICE_BYTES,
    WORKER_BYTES,
    group_models,
    half_step_bytes,
)
from als_spark.spark.prepare.pack import PackOptions, Ratings, merge_block
from als_spark.spark.train.exchange import TrainSlice, solve_partition

N_COLUMNS = 3000


def block_of(n_ratings: int, *, longest: int = 400, dtype=np.float32) -> RatingBlock:
    """A block of rows of all degrees up to the longest."""
    rng = np.random.default_rng(0)
    degrees = rng.integers(1, longest, 2 * n_ratings // longest)
    rows = np.repeat(np.arange(degrees.size), degrees)
    columns = np.concatenate([np.arange(n) for n in degrees])
    return build_block(
        rows,
        columns,
        np.ones(rows.size),
        n_rows=degrees.size,
        n_columns=max(N_COLUMNS, longest),
        dtype=dtype,
    )


def peak_of(work) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestHalfStep:
    @pytest.mark.slow
    @pytest.mark.parametrize("ranks", [[8], [50], [20, 1, 5]])
    def test_the_computed_memory_is_enough_whatever_the_size_of_the_block(self, ranks):
        peaks = []
        for n_ratings in (600_000, 2_400_000):
            slices = [
                pickle.dumps(TrainSlice("user", (0, k), False, part))
                for k, part in enumerate(split_block(block_of(n_ratings), SLICE_BYTES))
            ]
            assert len(slices) >= 3

            def work(slices=slices) -> None:
                solvers = [
                    Objective(0.5, 1.0).row_solver(np.ones((N_COLUMNS, rank), np.float32))
                    for rank in ranks
                ]
                arriving: Iterator[TrainSlice] = (pickle.loads(data) for data in slices)
                broadcast = SimpleNamespace(value=solvers)
                for solved in solve_partition(arriving, side="user", solvers=broadcast):  # type: ignore[arg-type]
                    pickle.dumps(solved)

            peaks.append(peak_of(work))
        assert max(peaks) <= half_step_bytes(N_COLUMNS, ranks, 4)
        # Four times the ratings: the same memory.
        assert peaks[1] < 1.2 * peaks[0]

    def test_a_row_longer_than_the_workspace_is_accumulated_in_pieces(self):
        rank, longest = 40, 400_000
        block = build_block(
            np.zeros(longest, np.int32),
            np.arange(longest),
            np.ones(longest),
            n_rows=1,
            n_columns=longest,
            dtype=np.float32,
        )
        fixed = np.ones((longest, rank), np.float32)
        gathered_whole = longest * (rank + 1) * 4
        padded = fixed.nbytes + 4 * (longest + rank)
        peak = peak_of(lambda: Objective(0.5).row_solver(fixed).solve(block, side="user"))
        # Besides the padded factors and a float64 copy of its ratings.
        assert peak < padded + 8 * longest + 4 * WORKSPACE_BYTES
        assert peak - padded < gathered_whole / 4


class TestMerging:
    @pytest.mark.parametrize("held_out", [False, True])
    @pytest.mark.parametrize("duplicates", ["error", "last"])
    def test_the_computed_memory_is_enough(self, duplicates, held_out):
        n = 400_000
        rng = np.random.default_rng(0)
        pairs = rng.permutation(n)
        options = PackOptions(("user",), 1, duplicates, "float32", SLICE_BYTES)

        def work() -> None:
            pieces = [
                Ratings(
                    (part // 500).astype(np.int32),
                    (part % 500).astype(np.int32),
                    np.ones(part.size),
                    (part % 5 == 0).astype(np.int8) * 2 * held_out,
                    np.ones(part.size if duplicates == "last" else 0),
                )
                for part in np.array_split(pairs, 5)
            ]
            entries = merge_block("user", 0, pieces, np.zeros(800, np.int32), 500, options)
            for entry in entries:
                pickle.dumps(entry)

        assert peak_of(work) <= MERGE_BYTES * n


class TestGroups:
    def test_all_models_at_once_where_they_fit(self):
        assert group_models(10_000, [1, 5, 20, 50] * 4, 4, WORKER_BYTES) == [slice(0, 16)]

    def test_each_group_fits(self):
        ranks = [50, 20, 5, 1, 50, 50, 20]
        budget = half_step_bytes(100_000, [50, 20], 8)
        groups = group_models(100_000, ranks, 8, budget)
        assert [rank for group in groups for rank in ranks[group]] == ranks
        assert 1 < len(groups) < len(ranks)
        for group in groups:
            assert half_step_bytes(100_000, ranks[group], 8) <= budget

    def test_a_model_that_does_not_fit_goes_alone(self):
        assert group_models(10, [3, 4], 4, 1) == [slice(0, 1), slice(1, 2)]
