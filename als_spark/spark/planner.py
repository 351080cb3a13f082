"""One plan of a run on the cluster, a pure function of sizes and choices.

Seconds are those of :mod:`als_spark.spark.estimate.rates`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.blocks import assign_rows
from als_spark.solve.gram import WORKSPACE_BYTES
from als_spark.solve.routing import SHARED_ROW
from als_spark.spark.estimate.assumed import side_work
from als_spark.spark.estimate.rates import (
    BROADCAST_RATE,
    COLLECT_RATE,
    JOB_SECONDS,
    seconds_of,
)
from als_spark.types import (
    SIDES,
    ExchangeChoice,
    ExchangeName,
    FloatArray,
    IntArray,
    PlacementChoice,
    PlacementName,
    Side,
    other_side,
)

CALL_SECONDS = 2e-3
"""Fixed cost of one iteration of one model in one process: NumPy calls over all buckets."""
SLICE_BYTES = 2 << 20
"""Size of the slices in which blocks reach the workers: small pieces of memory are used again and
again, large ones are asked of the system, and zeroed by it, each time."""
WORKER_BYTES = 2 << 30
"""Memory that a Python worker may need, beyond its libraries: for a block while it is merged, for
the fixed factors of all models while rows are solved. Less where Spark limits it."""
LIBRARY_BYTES = 256 << 20
"""Memory of a Python worker that has loaded its libraries."""
LEAST_BYTES = 64 << 20
"""What is planned with where Spark allows a worker hardly more than its libraries."""
BROADCAST_SHARE = 4
"""The fixed factors of a model are broadcast if they take at most one part in so many of a worker's
memory: they are there as they have come and as the kernels pad them, beside all else."""
LARGEST_SHARE = 2
"""The same where they have to be broadcast: twice their size must fit."""
PIECE_BYTES = 16 << 20
"""Shuffled factors that come to the driver at a time, to be written."""
GRID_SHARE = 4
"""The packed ratings, held whole, may take one part in so many of a worker's memory."""
MERGE_BYTES = 96
"""Bytes a rating while a block is merged: its piece, its sorted copy, the sorting, the block."""
_SHIFTS = {"b": 0, "k": 10, "": 20, "m": 20, "g": 30, "t": 40, "p": 50}
"""Powers of two of Spark's units of memory; MiB where there is none."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the plan depends on.

    ``ranks`` has a rank for each point of the grid, ``itemsize`` is that of a factor (4 or 8),
    ``cores`` are the tasks that the cluster runs at a time.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run uses the cluster; decided once, by :func:`plan`.

    ``placement`` is what Spark partitions; there are ``n_blocks`` a side, in slices of at most
    ``slice_bytes`` (None: whole blocks). ``exchange`` says how the fixed factors reach the blocks
    of a side while it is solved; it is empty in the grid placement, where they do not travel.
    ``worker_bytes`` are what a Python worker may need beyond its libraries.
    """

    placement: PlacementName
    n_blocks: int
    slice_bytes: int | None
    exchange: Mapping[Side, ExchangeName]
    worker_bytes: int
    sizes: Sizes

    def groups(self, side: Side, ranks: Sequence[int], n_fixed: int | None = None) -> list[slice]:
        """Group running models, by rank, so that a half-step of each group fits into a worker.

        ``n_fixed`` are the rows of the other side that a block gets, if not all.
        """
        sizes = self.sizes
        if n_fixed is None:
            n_fixed = sizes.n_items if side == "user" else sizes.n_users
        return group_models(n_fixed, ranks, sizes.itemsize, self.worker_bytes)

    def as_record(self) -> dict[str, Any]:
        """Return what ``run.json`` tells of the plan."""
        return {
            "placement": self.placement,
            "blocks_a_side": self.n_blocks,
            "slice_bytes": self.slice_bytes,
            "exchange": dict(self.exchange),
            "worker_bytes": self.worker_bytes,
            "models_a_job": {
                side: [group.stop - group.start for group in self.groups(side, self.sizes.ranks)]
                for side in self.exchange
            },
        }


def plan(
    sizes: Sizes,
    placement: PlacementChoice = "auto",
    partitions: int | None = None,
    worker_limit: int | None = None,
    *,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName] = "auto",
    ranked: bool = False,
    accelerated: bool = False,
    whole: bool = False,
) -> Plan:
    """Decide how a run uses the cluster.

    ``partitions`` are the blocks of each side that the user has asked for, ``worker_limit`` the
    bytes that Spark allows a Python worker (see the function of that name), ``exchange`` how the
    fixed factors reach the blocks of both sides, or of each. An exchange that is not ``auto``
    implies that the ratings are partitioned. ``ranked`` says that ranking measures are asked for,
    ``accelerated`` that a model is accelerated: both need the items' factors broadcast. ``whole``
    says that every worker needs all that is known of the other side: nothing is then shuffled
    unless that is asked for.

    Raises
    ------
    ConfigError
        If the choices exclude each other.
    """
    if exchange != "auto" and placement == "grid":
        raise ConfigError(
            f'`exchange="{exchange}"` with `placement="grid"`: whole models are trained in a task, '
            "so no factors travel: leave one of the two out"
        )
    worker_bytes = usable_bytes(worker_limit)
    if placement == "auto" and exchange != "auto":
        placement = "ratings"
    if placement == "auto":
        placement = choose_placement(sizes, worker_bytes)
    if placement == "grid":
        return Plan("grid", 1, None, {}, worker_bytes, sizes)
    n_blocks = choose_blocks(sizes, worker_bytes) if partitions is None else partitions
    if whole and exchange == "auto":
        exchange = "broadcast"
    needs = ["ranking measures"] * ranked + ["acceleration"] * accelerated
    chosen = choose_exchange(sizes, worker_bytes, exchange, needs)
    return Plan("ratings", n_blocks, SLICE_BYTES, chosen, worker_bytes, sizes)


def choose_exchange(
    sizes: Sizes,
    worker_bytes: int,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName],
    needs_items: Sequence[str] = (),
) -> dict[Side, ExchangeName]:
    """Choose how the fixed factors reach the blocks of each side.

    Broadcast, unless those of the largest model would take too much of a worker's memory.
    ``needs_items`` names what is asked for that needs the items' factors broadcast, also where they
    take more than that.

    Raises
    ------
    ConfigError
        If those are to be shuffled nonetheless, or would hardly fit, where nobody has chosen.
    """
    n_rows = {"user": sizes.n_users, "item": sizes.n_items}
    row_bytes = max(sizes.ranks, default=0) * sizes.itemsize
    chosen: dict[Side, ExchangeName]
    if isinstance(exchange, Mapping):
        chosen = {side: exchange[side] for side in SIDES}
    elif exchange == "auto":
        limit = worker_bytes // BROADCAST_SHARE
        chosen = {
            side: "shuffle" if n_rows[other_side(side)] * row_bytes > limit else "broadcast"
            for side in SIDES
        }
        if needs_items:
            chosen["user"] = "broadcast"
    else:
        chosen = dict.fromkeys(SIDES, exchange)
    if not needs_items:
        return chosen
    asked = " and ".join(needs_items)
    if chosen["user"] == "shuffle":
        raise ConfigError(
            f"the items' factors shuffled with {asked}, which need them whole: use "
            '`exchange="auto"`, which shuffles the users\' alone if they are large, or leave '
            f"{asked} out"
        )
    item_bytes = sizes.n_items * row_bytes
    if exchange == "auto" and item_bytes > worker_bytes // LARGEST_SHARE:
        raise ConfigError(
            f"{asked} need the items' factors broadcast, and those of {sizes.n_items:,} items take "
            f"{item_bytes >> 20:,} MB, more than half of the {worker_bytes >> 20:,} MB of a Python "
            f'worker: use a smaller rank, leave {asked} out, or try it with `exchange="broadcast"`'
        )
    return chosen


def usable_bytes(worker_limit: int | None) -> int:
    """Return what a Python worker may need beyond its libraries, given what Spark allows it."""
    if worker_limit is None:
        return WORKER_BYTES
    return min(WORKER_BYTES, max(worker_limit - LIBRARY_BYTES, LEAST_BYTES))


def side_limit(conf: Mapping[str, str]) -> int:
    """Return the bytes of a side's factors from which on no process has them whole, by settings."""
    return usable_bytes(worker_limit(conf)) // BROADCAST_SHARE


def worker_limit(conf: Mapping[str, str]) -> int | None:
    """Return the bytes that Spark allows a Python worker; None where it sets no limit.

    An executor's ``spark.executor.pyspark.memory`` (in MiB unless it has a unit) is shared by the
    workers of its cores.
    """
    size = memory_bytes(conf.get("spark.executor.pyspark.memory", ""))
    return None if size is None else size // max(int(conf.get("spark.executor.cores", "1")), 1)


def memory_bytes(text: str) -> int | None:
    """Read a size as Spark writes it: 512m, 4g, 1024 (MiB); None if it is none."""
    found = re.fullmatch(r"(\d+)([bkmgtp]?)b?", text.strip().lower())
    return None if found is None else int(found[1]) << _SHIFTS[found[2]]


def choose_placement(sizes: Sizes, worker_bytes: int = WORKER_BYTES) -> PlacementName:
    """Choose what Spark partitions: the ratings, or the grid.

    The grid, if the packed ratings fit into every worker and whole models, each trained in one
    task, are estimated to be done before half-steps spread over all cores, each with its Spark
    jobs and its traffic of factors.
    """
    if sizes.packed_bytes > worker_bytes // GRID_SHARE:
        return "ratings"
    n_rows = sizes.n_users + sizes.n_items
    work = [model_seconds(sizes, rank) + CALL_SECONDS for rank in sizes.ranks]
    # Models are handed out largest first, so the end comes with the average core or with the
    # largest model.
    by_grid = max(max(work), sum(work) / sizes.cores)
    factors = sum(sizes.ranks) * n_rows * sizes.itemsize
    traffic = factors / BROADCAST_RATE + factors / COLLECT_RATE
    by_ratings = sum(work) / sizes.cores + 2 * JOB_SECONDS + traffic
    return "grid" if by_grid <= by_ratings else "ratings"


def model_seconds(sizes: Sizes, rank: int) -> float:
    """Estimate the CPU seconds of an iteration of one model."""
    of_rating, of_row = seconds_of(rank, "float64" if sizes.itemsize == 8 else "float32")
    work = [side_work(n, sizes.n_ratings, rank) for n in (sizes.n_users, sizes.n_items)]
    return sum(ratings * of_rating + rows * of_row for ratings, rows in work)


def choose_blocks(sizes: Sizes, worker_bytes: int = WORKER_BYTES) -> int:
    """Choose the blocks of each side: one a core, more only where merging one would not fit."""
    needed = -(-sizes.n_ratings * MERGE_BYTES // worker_bytes)
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


def place_rows(counts: IntArray, ranks: Sequence[int], n_blocks: int) -> IntArray:
    """Assign rows with so many ratings to blocks of nearly equal work.

    Returns (n_rows,) int: the block of each row, ``SHARED_ROW`` for a row that alone would outlast
    the work of a whole block.
    """
    costs = row_costs(counts, ranks)
    shared = shared_rows(costs, n_blocks)
    costs[shared] = 0
    blocks: IntArray = assign_rows(costs, n_blocks)
    blocks[shared] = SHARED_ROW
    return blocks


def half_step_bytes(n_fixed: int, ranks: Sequence[int], itemsize: int) -> int:
    """Memory that a worker needs at most while it solves rows of a group of models.

    The fixed factors, with the row and the column that the kernels append; a slice, as it arrives
    and decoded; the factors of its rows, of which there may be one for each eight bytes, twice,
    since they are pickled; and the workspaces of the kernels: gathered rows, Gram matrices, and
    what solving them takes.
    """
    padded = sum((n_fixed + 1) * (rank + 1) * itemsize for rank in ranks)
    results = SLICE_BYTES // 8 * sum(ranks) * itemsize
    return padded + 3 * SLICE_BYTES + 2 * results + 6 * WORKSPACE_BYTES


def group_models(
    n_fixed: int, ranks: Sequence[int], itemsize: int, worker_bytes: int
) -> list[slice]:
    """Group neighbouring models so that a half-step of each group fits into a worker.

    A model that does not fit is a group of its own.
    """
    groups: list[slice] = []
    first = 0
    for k in range(1, len(ranks)):
        if half_step_bytes(n_fixed, ranks[first : k + 1], itemsize) > worker_bytes:
            groups.append(slice(first, k))
            first = k
    return [*groups, slice(first, len(ranks))]
