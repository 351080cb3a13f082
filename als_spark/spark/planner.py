"""Decisions about the cluster, as pure functions of sizes: which placement, how many blocks.

The constants are orders of magnitude from measurements on current x86 cores; they only have to tell
seconds from minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from als_spark.solve.rows import WORKSPACE_BYTES
from als_spark.types import FloatArray, IntArray

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
SLICE_BYTES = 2 << 20
"""Size of the slices in which blocks reach the workers: small pieces of memory are used again and
again, large ones are asked of the system, and zeroed by it, each time."""
WORKER_BYTES = 2 << 30
"""Memory that a Python worker may need, beyond its libraries: for a block while it is merged, for
the fixed factors of all models while rows are solved."""
MERGE_BYTES = 96
"""Bytes a rating while a block is merged: its piece, its sorted copy, the sorting, the block."""


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
    """Choose the blocks of each side: one a core, more only where merging one would not fit."""
    needed = -(-sizes.n_ratings * MERGE_BYTES // WORKER_BYTES)
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


def shared_rows(costs: FloatArray, n_blocks: int) -> IntArray:
    """Rows that alone would outlast the work of a whole block: they are shared by all blocks."""
    return np.flatnonzero(costs > costs.sum() / n_blocks) if n_blocks > 1 else np.zeros(0, np.int64)


def half_step_bytes(n_fixed: int, ranks: Sequence[int], itemsize: int) -> int:
    """Memory that a worker needs at most while it solves rows of a group of models.

    The fixed factors, with the row and the column that the kernels append; a slice, as it arrives
    and decoded; the factors of its rows, of which there may be one for each eight bytes, twice,
    since they are pickled; and the workspaces of the kernels: gathered rows, Gram matrices, and
    what solving them takes.

    Parameters
    ----------
    n_fixed : int
        Rows of the fixed side.
    ranks : sequence of int
        Rank of each model.
    itemsize : int
        Bytes of a factor: 4 or 8.
    """
    padded = sum((n_fixed + 1) * (rank + 1) * itemsize for rank in ranks)
    results = SLICE_BYTES // 8 * sum(ranks) * itemsize
    return padded + 3 * SLICE_BYTES + 2 * results + 6 * WORKSPACE_BYTES


def group_models(n_fixed: int, ranks: Sequence[int], itemsize: int) -> list[slice]:
    """Group models so that a half-step of each group fits into a worker.

    Parameters are those of :func:`half_step_bytes`.

    Returns
    -------
    list of slice
        Neighbours; a model that does not fit is a group of its own.
    """
    groups: list[slice] = []
    first = 0
    for k in range(1, len(ranks)):
        if half_step_bytes(n_fixed, ranks[first : k + 1], itemsize) > WORKER_BYTES:
            groups.append(slice(first, k))
            first = k
    return [*groups, slice(first, len(ranks))]


def _iteration_seconds(sizes: Sizes, rank: int) -> float:
    rows = sizes.n_users + sizes.n_items
    flops = 2 * 2 * sizes.n_ratings * rank**2 / 2 + rows * rank**3 / 3
    return flops / FLOPS + CALL_SECONDS
