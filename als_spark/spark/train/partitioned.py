"""Partition the ratings: blocks on the executors, a half-step of all models a Spark job.

Ratings are partitioned twice, by user and by item (see :mod:`als_spark.spark.prepare.pack`), and
stay where they are. The exchange of each side brings the fixed factors of all models that are still
running to the blocks, and the solved rows back, which the driver puts in their places. Of shared
rows come normal equations, which the driver sums and solves: there are at most as many such rows as
blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import RDD, SparkContext

from als_spark.spark.planner import Plan
from als_spark.spark.session import described
from als_spark.spark.shared import HasValue, shared
from als_spark.spark.train.exchange import (
    BroadcastExchange,
    Exchange,
    SliceNumber,
    TrainSlice,
    join_solved,
)
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import (
    AnyFactors,
    AnyHalfStep,
    FactorPair,
    Factors,
    Solved,
    Start,
    as_array,
)
from als_spark.train.bayes.loop import Posterior, PosteriorRecord, train_posteriors
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.checkpoint import Checkpoint
from als_spark.train.grid import Collector, run_grid
from als_spark.train.loop import OnIteration
from als_spark.train.metrics import ErrorSums, EvaluationPart, SideStats
from als_spark.train.ranking import Ranker, RankingPart, RankingSums, sum_rankings
from als_spark.train.records import ModelSpec, Options, RankingMeans
from als_spark.train.start import start_array
from als_spark.types import SIDES, IntArray, Side, SplitName

EXCHANGES = {"broadcast": BroadcastExchange}


@dataclass(frozen=True, slots=True)
class PartitionedRankings:
    """What rankings are measured by: the users of each block where its ratings are.

    ``parts`` has the partitions of the slices. The few shared rows, whose ratings are in all
    blocks, are in ``shared``, on the driver.
    """

    ranker: Ranker
    parts: RDD[RankingPart]
    shared: Sequence[RankingPart]


@dataclass(eq=False)
class PartitionedRatings:
    """Training ratings as an RDD of slices of blocks, held-out ratings as one of evaluation parts.

    A :class:`~als_spark.train.backend.Backend`, and the placement that trains on it (see
    :class:`als_spark.spark.train.run.Placement`). Both RDDs are persisted. A partition of
    ``slices`` is a block, those by user before those by item; ``rows`` has the dense rows of each
    slice, in the order of its factors (shared rows are in none). ``positives`` counts the training
    ratings above 0 of each row. ``resources`` are freed at the end. ``ranking`` is there where it
    was asked for.
    """

    context: SparkContext
    slices: RDD[TrainSlice]
    rows: Mapping[Side, Mapping[SliceNumber, IntArray]]
    evaluation: RDD[EvaluationPart] | None
    stats: Mapping[Side, SideStats]
    positives: Mapping[Side, IntArray]
    plan: Plan
    resources: ExitStack
    ranking: PartitionedRankings | None = None

    def __post_init__(self) -> None:
        """Make the exchange that the plan has chosen for each side."""
        self.exchanges: dict[Side, Exchange] = {
            side: EXCHANGES[name](self.context, self.slices, side, self._partitions(side))
            for side, name in self.plan.exchange.items()
        }

    @property
    def backend(self) -> PartitionedRatings:
        """What the training loop asks: itself."""
        return self

    def train(
        self,
        specs: Sequence[ModelSpec],
        options: Options,
        collector: Collector,
        *,
        starts: Sequence[Factors | None] | None = None,
        on_iteration: OnIteration | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train all points side by side: see :func:`als_spark.train.grid.run_grid`."""
        run_grid(
            *(self, specs, options, collector),
            starts=starts,
            on_iteration=on_iteration,
            checkpoint=checkpoint,
        )

    def train_posteriors(
        self,
        stats: SideStats,
        grid: Sequence[PosteriorOptions],
        take: Callable[[int, Posterior], None],
        on_iteration: Callable[[int, PosteriorRecord], None],
    ) -> None:
        """Train one after the other: see :func:`als_spark.train.bayes.loop.train_posteriors`."""
        train_posteriors(self, stats, grid, take, on_iteration)

    def close(self) -> None:
        """Unpersist everything."""
        self.resources.close()

    def degrees(self, side: Side, *, positive: bool = False) -> IntArray:
        """See :class:`als_spark.train.backend.Backend`."""
        return self.positives[side] if positive else self.stats[side].degrees

    def start(self, side: Side, starts: Sequence[Start]) -> Sequence[AnyFactors]:
        """See :class:`als_spark.train.backend.Backend`."""
        n_rows = self.stats[side].degrees.size
        return [start_array(start, n_rows, side) for start in starts]

    def solve(self, side: Side, steps: Sequence[AnyHalfStep], label: str) -> list[Solved]:
        """Run a half-step of several models: a Spark job, or a few where they are too large."""
        results: list[Solved] = []
        for group in self.plan.groups(side, [step.fixed.shape[1] for step in steps]):
            solved, sums = self.exchanges[side].solve(steps[group], label)
            for k, step in enumerate(steps[group]):
                solver = step.row_solver() if sums else None
                results.append(
                    join_solved(
                        *(side, step, k, solved, sums),
                        rows=self.rows[side],
                        degrees=self.degrees(side, positive=step.objective.implicit),
                        solver=solver,
                    )
                )
        return results

    def errors(
        self, models: Sequence[FactorPair], label: str
    ) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models in one Spark job."""
        parts: RDD[Any] = self.slices
        partitions = [*self._partitions("user")]
        if self.evaluation is not None:
            parts = self.context.union([parts, self.evaluation])
            partitions += range(self.slices.getNumPartitions(), parts.getNumPartitions())
        arrays = [Factors(*map(as_array, model)) for model in models]
        with described(self.context, label), shared(self.context, arrays) as handle:
            found = self.context.runJob(
                parts, partial(errors_of_partition, models=handle), partitions
            )
        return [
            ErrorSums.by_split((split, sums[k]) for split, sums in found)
            for k in range(len(models))
        ]

    def rankings(
        self, models: Sequence[FactorPair], label: str
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """Measure the rankings of several models in one Spark job."""
        if self.ranking is None:
            return [{} for _ in models]
        ranker, parts, own = self.ranking.ranker, self.ranking.parts, self.ranking.shared
        candidates = ranker.candidates(models)
        with described(self.context, label), shared(self.context, candidates) as broadcast:
            rank = partial(rank_partition, models=broadcast, top=ranker.top)
            found = self.context.runJob(parts, rank, self._partitions("user"))
        found += sum_rankings(own, candidates, ranker.top)
        return ranker.means(found, len(models))

    def _partitions(self, side: Side) -> range:
        """Partitions of the slices that hold the blocks of a side."""
        first = SIDES.index(side) * self.plan.n_blocks
        return range(first, first + self.plan.n_blocks)


def errors_of_partition(
    parts: Iterable[TrainSlice | EvaluationPart], *, models: HasValue[list[Factors]]
) -> Iterator[tuple[SplitName, list[ErrorSums]]]:
    """Sum the errors of every model over a partition's parts: runs on an executor."""
    prepare_worker()
    every = models.value
    for part in parts:
        rated = part if isinstance(part, EvaluationPart) else EvaluationPart("train", part.ratings)
        yield rated.split, [rated.errors(*factors) for factors in every]


def rank_partition(
    parts: Iterable[RankingPart], *, models: HasValue[list[Factors]], top: int
) -> Iterator[tuple[SplitName, list[RankingSums]]]:
    """Sum the ranking measures of every model over a partition's users: runs on an executor."""
    prepare_worker()
    yield from sum_rankings(parts, models.value, top)
