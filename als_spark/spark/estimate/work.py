"""What a run does, as the estimates see it: sizes, plan, cluster, and the rows that travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from als_spark.solve.posterior import Columns
from als_spark.spark.arrow import CHUNK_ROWS
from als_spark.spark.estimate.assumed import distinct
from als_spark.spark.estimate.resources import Resources
from als_spark.spark.planner import Plan, Sizes
from als_spark.train.bayes.options import (
    KEPT_BYTES,
    Covariance,
    PosteriorMethod,
    PosteriorOptions,
)
from als_spark.types import DType, Side, other_side

Method = Literal["ridge", "ridge towards a mean", "variational", "sample"]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, besides what the sizes say.

    Attributes
    ----------
    method : {"ridge", "ridge towards a mean", "variational", "sample"}
        All but ``ridge`` keep more of a row than its d factors: see
        :mod:`als_spark.solve.posterior`.
    train_share : float
        Share of the ratings that is trained on.
    rankings : bool
        Whether ranking measures are asked for.
    weights : bool
        Whether ratings have weights.
    accelerated : bool
        Whether a model is accelerated.
    covariance : {"full", "diagonal"}, optional
        What ``variational`` keeps of a row; what memory has room for if not given.
    """

    method: Method = "ridge"
    train_share: float = 1.0
    rankings: bool = False
    weights: bool = False
    accelerated: bool = False
    covariance: Covariance | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A training whose needs are estimated."""

    plan: Plan
    resources: Resources
    workload: Workload

    @property
    def sizes(self) -> Sizes:
        """The counts."""
        return self.plan.sizes

    @property
    def dtype(self) -> DType:
        """Of the factors."""
        return "float64" if self.sizes.itemsize == 8 else "float32"

    @property
    def n_rows(self) -> dict[Side, int]:
        """Rows of each side."""
        return {"user": self.sizes.n_users, "item": self.sizes.n_items}

    @property
    def all_rows(self) -> int:
        """Users and items."""
        return self.sizes.n_users + self.sizes.n_items

    @property
    def rating_bytes(self) -> int:
        """Bytes of a packed rating: the index of its column, its value, its weight."""
        return 4 + self.sizes.itemsize * (2 if self.workload.weights else 1)

    @property
    def n_train(self) -> float:
        """Ratings that are trained on."""
        return self.sizes.n_ratings * self.workload.train_share

    def stays(self, side: Side) -> bool:
        """Whether the factors of a side stay on the executors."""
        return self.plan.exchange.get(other_side(side)) == "shuffle"

    def columns(self, rank: int) -> Columns | None:
        """Return what is kept of a row where a prior is learnt; None of a ridge towards zero."""
        method, covariance = self.workload.method, self.workload.covariance
        if method == "ridge":
            return None
        own: PosteriorMethod = "ridge" if method == "ridge towards a mean" else method
        options = PosteriorOptions(own, rank, covariance=covariance)
        return options.for_rows(max(self.n_rows.values())).columns

    def fixed_bytes(self, rank: int) -> int:
        """Bytes of a fixed row as the solvers have it."""
        columns = self.columns(rank)
        if columns is None:
            return (rank + 1) * self.sizes.itemsize
        return (columns.size + 1 + columns.n_covariances) * self.sizes.itemsize

    def collected_bytes(self, rank: int) -> int:
        """Bytes of a solved row as it comes to the driver."""
        columns = self.columns(rank)
        return (rank if columns is None else columns.total) * self.sizes.itemsize

    def solved_bytes(self, rank: int) -> int:
        """Bytes of a solved row as the driver keeps it."""
        columns = self.columns(rank)
        return rank * self.sizes.itemsize if columns is None else 8 * columns.total

    @property
    def kept_bytes(self) -> int:
        """Bytes of the samples that are kept of the largest model; 0 of other methods."""
        if self.workload.method != "sample":
            return 0
        options = PosteriorOptions("sample", max(self.sizes.ranks))
        n_kept = options.kept(max(self.n_rows.values()))
        return self.all_rows * n_kept * options.columns.size * KEPT_BYTES

    def needed(self, side: Side) -> int:
        """Return the fixed rows that a block of a side needs, where factors are shuffled."""
        n_fixed = self.n_rows[other_side(side)]
        return round(distinct(n_fixed, self.sizes.n_ratings / self.plan.n_blocks))

    def groups(self, side: Side) -> list[Sequence[int]]:
        """Ranks of the models that a half-step of a side solves together."""
        ranks = self.sizes.ranks
        # Of as many columns as a row of theirs has: see PartitionedRatings.solve.
        widths = [rank if (c := self.columns(rank)) is None else c.total for rank in ranks]
        n_fixed = self.needed(side) if self.stays(other_side(side)) else None
        return [ranks[group] for group in self.plan.groups(side, widths, n_fixed)]

    def largest_group(self, side: Side, *, solved: bool) -> int:
        """Bytes of the fixed, or of the solved rows of the largest group of models of a side."""
        n_rows = self.n_rows[side if solved else other_side(side)]
        one = self.solved_bytes if solved else self.fixed_bytes
        return n_rows * max(sum(map(one, ranks)) for ranks in self.groups(side))

    def chunk_ids(self) -> float:
        """Ids that all chunks of ratings have, each its own.

        A chunk is at most as large as a partition of the input, which is not known: that of
        :data:`als_spark.spark.arrow.CHUNK_ROWS` ratings, in random order.
        """
        size = min(CHUNK_ROWS, self.sizes.n_ratings / self.resources.all_cores)
        n_chunks = self.sizes.n_ratings / max(size, 1.0)
        return n_chunks * sum(distinct(n, size) for n in self.n_rows.values())


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a side's half-steps send in an iteration, of all models.

    ``broadcast`` are sent to each executor, ``collected`` come to the driver, ``shuffled`` go from
    worker to worker, over the network as far as they are of different machines.
    """

    broadcast: int = 0
    collected: int = 0
    shuffled: int = 0


def traffic(run: Run) -> dict[Side, Traffic]:
    """Return what an iteration sends; nothing where whole models are trained in a task."""
    found: dict[Side, Traffic] = {}
    for side, exchange in run.plan.exchange.items():
        ranks, n_fixed = run.sizes.ranks, run.n_rows[other_side(side)]
        broadcast = shuffled = 0
        if exchange == "shuffle":
            row = sum(ranks) * run.sizes.itemsize
            shuffled = run.plan.n_blocks * run.needed(side) * row
        else:
            broadcast = n_fixed * sum(map(run.fixed_bytes, ranks))
        kept = run.stays(side)
        collected = 0 if kept else run.n_rows[side] * sum(map(run.collected_bytes, ranks))
        found[side] = Traffic(broadcast, collected, shuffled)
    return found
