"""Partition the ratings: blocks on the executors, a half-step of all models a Spark job.

Ratings are partitioned twice, by user and by item (see :mod:`als_spark.spark.prepare.pack`), and
stay where they are. The exchange of each side brings the fixed factors of all models that are still
running to the blocks, and the solved rows back, which the driver puts in their places. Of shared
rows come normal equations, which the driver sums and solves: there are at most as many such rows as
blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from pyspark import RDD, Broadcast, SparkContext

from als_spark.solve.solver import add_sums
from als_spark.spark.planner import Plan
from als_spark.spark.session import broadcasted, described
from als_spark.spark.train.broadcast import BroadcastExchange
from als_spark.spark.train.exchange import Exchange, SliceNumber, TrainSlice
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import Factors, HalfStep, Solved
from als_spark.train.grid import Collector, run_grid
from als_spark.train.loop import OnIteration
from als_spark.train.metrics import ErrorSums, EvaluationPart, SideStats, train_errors
from als_spark.train.spec import ModelSpec, TrainingOptions
from als_spark.types import SIDES, IntArray, Side, SplitName

EXCHANGES = {"broadcast": BroadcastExchange}


class PartitionedRatings:
    """Training ratings as an RDD of slices of blocks, held-out ratings as one of evaluation parts.

    A :class:`~als_spark.train.backend.Backend`, and the placement that trains on it (see
    :class:`als_spark.spark.train.run.Placement`).

    Parameters
    ----------
    context : SparkContext
    slices : RDD of TrainSlice
        Persisted; a partition a block, those by user before those by item.
    rows : mapping of side to mapping of SliceNumber to (n,) int32
        Dense rows of each slice, in the order of its factors; shared rows are in none.
    evaluation : RDD of EvaluationPart or None
        Persisted.
    stats : mapping of side to SideStats
    plan : Plan
    resources : ExitStack
        What is freed at the end.
    """

    def __init__(
        self,
        context: SparkContext,
        slices: RDD[TrainSlice],
        rows: Mapping[Side, Mapping[SliceNumber, IntArray]],
        evaluation: RDD[EvaluationPart] | None,
        stats: Mapping[Side, SideStats],
        plan: Plan,
        resources: ExitStack,
    ) -> None:
        self._context = context
        self._slices = slices
        self._rows = rows
        self._evaluation = evaluation
        self._stats = stats
        self._plan = plan
        self._resources = resources
        self._partitions = {
            side: range(k * plan.n_blocks, (k + 1) * plan.n_blocks) for k, side in enumerate(SIDES)
        }
        self._exchanges: dict[Side, Exchange] = {
            side: EXCHANGES[name](context, slices, side, self._partitions[side])
            for side, name in plan.exchange.items()
        }

    @property
    def backend(self) -> PartitionedRatings:
        """What the training loop asks: itself."""
        return self

    def train(
        self,
        specs: Sequence[ModelSpec],
        options: TrainingOptions,
        collector: Collector,
        *,
        starts: Sequence[Factors] | None = None,
        on_iteration: OnIteration | None = None,
    ) -> None:
        """Train all points side by side: see :func:`als_spark.train.grid.run_grid`."""
        run_grid(self, specs, options, collector, starts=starts, on_iteration=on_iteration)

    def close(self) -> None:
        """Unpersist everything."""
        self._resources.close()

    def degrees(self, side: Side) -> IntArray:
        """See :class:`als_spark.train.backend.Backend`."""
        return self._stats[side].degrees

    def solve(self, side: Side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        """Run one half-step of several models: one Spark job, or a few where they are too large."""
        results: list[Solved] = []
        for group in self._plan.groups(side, [step.fixed.shape[1] for step in steps]):
            solved, shared = self._exchanges[side].solve(steps[group], label)
            for k, step in enumerate(steps[group]):
                factors = step.current.copy()
                for part in solved:
                    factors[self._rows[side][part.number]] = part.factors[k]
                loss = sum(part.losses[k] for part in solved)
                if shared:
                    rows, sums = add_sums([(part.rows, part.sums[k]) for part in shared])
                    solver, degrees = step.objective.row_solver(step.fixed), self.degrees(side)
                    factors[rows], shared_loss = solver.solve_sums(
                        sums, rows, degrees[rows], side=side
                    )
                    loss += shared_loss
                results.append(Solved(factors, loss))
        return results

    def errors(self, models: Sequence[Factors], label: str) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models in one Spark job."""
        parts: RDD[Any] = self._slices
        partitions = [*self._partitions["user"]]
        if self._evaluation is not None:
            parts = self._context.union([parts, self._evaluation])
            partitions += range(self._slices.getNumPartitions(), parts.getNumPartitions())
        with described(self._context, label), broadcasted(self._context, list(models)) as shared:
            found = self._context.runJob(
                parts, partial(errors_of_partition, models=shared), partitions
            )
        results: list[Mapping[SplitName, ErrorSums]] = []
        for k in range(len(models)):
            by_split: dict[SplitName, list[ErrorSums]] = {}
            for split, sums in found:
                by_split.setdefault(split, []).append(sums[k])
            results.append({split: ErrorSums.total(sums) for split, sums in by_split.items()})
        return results


def errors_of_partition(
    parts: Iterable[TrainSlice | EvaluationPart], *, models: Broadcast[list[Factors]]
) -> Iterator[tuple[SplitName, list[ErrorSums]]]:
    """Sum the errors of every model over a partition's parts: runs on an executor."""
    prepare_worker()
    factors = models.value
    for part in parts:
        if isinstance(part, EvaluationPart):
            yield part.split, [part.errors(users, items) for users, items in factors]
        else:
            sums = [train_errors(part.ratings, users, items) for users, items in factors]
            yield "train", sums
