"""Decisions about the cluster, as pure functions of sizes: which placement, how many blocks.

The constants are orders of magnitude from measurements on current x86 cores; they only have to tell
seconds from minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from als_spark.blocks import FloatArray, IntArray

FLOPS = 20e9
"""Floating-point operations a second that a core does in a half-step, all told."""
CALL_SECONDS = 2e-3
"""Fixed cost of one iteration of one model in one process: NumPy calls over all buckets."""
JOB_SECONDS = 0.08
"""Fixed cost of a Spark job with one Python task a core."""
BYTES_PER_SECOND = 200e6
"""Speed at which factors reach the executors and come back."""
MAX_GRID_BYTES = 512 << 20
"""Packed ratings that a worker may be asked to hold whole."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the plan depends on.

    Attributes
    ----------
    n_users, n_items, n_ratings : int
        Of the data.
    ranks : sequence of int
        Rank of every model of the grid (a rank for each point).
    itemsize : int
        Bytes of a factor: 4 or 8.
    cores : int
        Tasks that the cluster runs at a time.
    """

    n_users: int
    n_items: int
    n_ratings: int
    ranks: Sequence[int]
    itemsize: int
    cores: int

    @property
    def packed_bytes(self) -> int:
        """Bytes of the ratings, packed by user and by item."""
        return 2 * self.n_ratings * (4 + self.itemsize)


def choose_placement(sizes: Sizes) -> Literal["ratings", "grid"]:
    """Choose what Spark partitions: the ratings, or the grid.

    The grid, if the packed ratings fit into every worker and whole models, each trained in one
    task, are estimated to be done before half-steps spread over all cores, each with its Spark jobs
    and its traffic of factors.
    """
    if sizes.packed_bytes > MAX_GRID_BYTES:
        return "ratings"
    work = [_iteration_seconds(sizes, rank) for rank in sizes.ranks]
    # Models are handed out largest first, so the end comes with the average core or with the
    # largest model.
    by_grid = max(max(work), sum(work) / sizes.cores)
    factors = sum(sizes.ranks) * (sizes.n_users + sizes.n_items) * sizes.itemsize
    by_ratings = sum(work) / sizes.cores + 2 * JOB_SECONDS + 2 * factors / BYTES_PER_SECOND
    return "grid" if by_grid <= by_ratings else "ratings"


def choose_blocks(sizes: Sizes) -> int:
    """Choose the blocks of each side: one a core, more only where blocks would grow too large."""
    most_ratings = 50_000_000
    needed = -(-sizes.n_ratings // most_ratings)
    rounds = max(-(-needed // sizes.cores), 1)
    return min(rounds * sizes.cores, max(sizes.n_users, sizes.n_items, 1))


def row_costs(degrees: IntArray, ranks: Sequence[int]) -> FloatArray:
    """Estimate the work of solving each row for all models of a grid, in floating-point operations.

    A row of n ratings costs n d² for its Gram matrix and d³/3 for its solution; n² d and n³/3 in
    the dual form, taken where n < d.
    """
    n = degrees.astype(np.float64)
    costs = np.zeros(n.size)
    for rank in ranks:
        small = np.minimum(n, rank)
        # The constant stands for what a row costs however small it is.
        costs += n * rank * small + small**3 / 3 + 500.0
    return costs


def _iteration_seconds(sizes: Sizes, rank: int) -> float:
    rows = sizes.n_users + sizes.n_items
    flops = 2 * 2 * sizes.n_ratings * rank**2 / 2 + rows * rank**3 / 3
    return flops / FLOPS + CALL_SECONDS
