"""The backend on Spark: blocks on the executors, a half-step a Spark job.

Ratings are partitioned twice, by user and by item (see :mod:`als_spark.spark.packing`). A half-step
broadcasts the fixed factors of all models that are still running; each task reads its block once,
solves the rows of every model inside ``mapPartitions`` with NumPy, and returns them; the driver
puts the rows in their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pyspark import RDD, Broadcast, SparkContext

from als_spark.backend import Factors, HalfStep, Solved
from als_spark.blocks import FloatArray, IntArray, RatingBlock, Side
from als_spark.errors import SolveError
from als_spark.kernels import solve_block
from als_spark.metrics import ErrorSums, EvaluationPart, SideStats, train_errors
from als_spark.results import SplitName
from als_spark.spark.session import broadcasted, described, limit_blas_threads


class Task(NamedTuple):
    """What an executor needs to know of one model's half-step: scalars and one array."""

    fixed: FloatArray
    reg: float
    exponent: float


class SolvedBlock(NamedTuple):
    """One block's share of a half-step."""

    block: int
    factors: list[FloatArray]
    """(n_rows_of_the_block, rank) for each model."""
    losses: list[float]


class SparkBackend:
    """Training ratings as two RDDs of blocks, held-out ratings as one of evaluation parts.

    Parameters
    ----------
    context : SparkContext
    blocks : mapping of side to RDD of (int, RatingBlock)
        The two partitionings, persisted.
    rows : mapping of side to mapping of int to (n,) int32
        Dense rows of each block, in the order of its factors.
    evaluation : RDD of EvaluationPart
        Persisted.
    stats : mapping of side to SideStats
    """

    def __init__(
        self,
        context: SparkContext,
        blocks: Mapping[Side, RDD[tuple[int, RatingBlock]]],
        rows: Mapping[Side, Mapping[int, IntArray]],
        evaluation: RDD[EvaluationPart],
        stats: Mapping[Side, SideStats],
    ) -> None:
        self._context = context
        self._blocks = blocks
        self._rows = rows
        self._evaluation = evaluation
        self._stats = stats

    def degrees(self, side: Side) -> IntArray:
        """See :class:`als_spark.backend.Backend`."""
        return self._stats[side].degrees

    def solve(self, side: Side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        """Run one half-step of several models as one Spark job."""
        tasks = [Task(step.fixed, step.reg, step.exponent) for step in steps]
        with described(self._context, label), broadcasted(self._context, tasks) as shared:
            solve = partial(solve_partition, side=side, tasks=shared)
            returned = self._blocks[side].mapPartitions(solve).collect()
        solved = []
        for part in returned:
            if isinstance(part, SolveError):
                raise part
            solved.append(part)
        # In the order of the blocks, so that the sums below do not depend on which task ended
        # first.
        solved.sort(key=lambda part: part.block)
        results = []
        for k, step in enumerate(steps):
            factors = step.current.copy()
            for part in solved:
                factors[self._rows[side][part.block]] = part.factors[k]
            results.append(Solved(factors, sum(part.losses[k] for part in solved)))
        return results

    def errors(self, models: Sequence[Factors], label: str) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models in one Spark job."""
        both: RDD[tuple[int, RatingBlock] | EvaluationPart] = self._context.union(
            [self._blocks["user"], self._evaluation]
        )
        with described(self._context, label), broadcasted(self._context, list(models)) as shared:
            found = both.mapPartitions(partial(errors_of_partition, models=shared)).collect()
        results: list[Mapping[SplitName, ErrorSums]] = []
        for k in range(len(models)):
            by_split: dict[SplitName, list[ErrorSums]] = {}
            for split, sums in found:
                by_split.setdefault(split, []).append(sums[k])
            results.append({split: ErrorSums.total(parts) for split, parts in by_split.items()})
        return results


def solve_partition(
    blocks: Iterable[tuple[int, RatingBlock]], *, side: Side, tasks: Broadcast[list[Task]]
) -> Iterator[SolvedBlock | SolveError]:
    """Solve the rows of a partition's blocks for every model: runs on an executor.

    A system without a solution is returned, not raised: it is the user's to mend, and not a failure
    of the executor that Spark should try again.
    """
    limit_blas_threads()
    models = tasks.value
    for number, block in blocks:
        try:
            solved = [
                solve_block(block, task.fixed, task.reg, task.exponent, side=side)
                for task in models
            ]
        except SolveError as error:
            yield error
            continue
        yield SolvedBlock(number, [factors for factors, _ in solved], [loss for _, loss in solved])


def errors_of_partition(
    parts: Iterable[tuple[int, RatingBlock] | EvaluationPart], *, models: Broadcast[list[Factors]]
) -> Iterator[tuple[SplitName, list[ErrorSums]]]:
    """Sum the errors of every model over a partition's parts: runs on an executor."""
    limit_blas_threads()
    factors = models.value
    for part in parts:
        if isinstance(part, EvaluationPart):
            yield part.split, [part.errors(users, items) for users, items in factors]
        else:
            _, block = part
            yield "train", [train_errors(block, users, items) for users, items in factors]
