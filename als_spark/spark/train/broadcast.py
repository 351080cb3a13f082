"""The exchange by broadcast: every worker gets all fixed factors, the driver all solved rows.

Each task reads its block once, slice by slice, solves the rows of every model inside
``mapPartitions`` with NumPy, and returns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from pyspark import RDD, Broadcast, SparkContext

from als_spark.errors import SolveError
from als_spark.solve.solver import RowSolver
from als_spark.spark.session import broadcasted, described
from als_spark.spark.train.exchange import SharedSums, SolvedSlice, TrainSlice
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import HalfStep
from als_spark.types import Side


class BroadcastExchange:
    """See :class:`als_spark.spark.train.exchange.Exchange`.

    Parameters
    ----------
    context : SparkContext
    slices : RDD of TrainSlice
        Persisted.
    side : {"user", "item"}
        What the rows of the blocks are.
    partitions : sequence of int
        Partitions of ``slices`` that hold the blocks of the side.
    """

    def __init__(
        self,
        context: SparkContext,
        slices: RDD[TrainSlice],
        side: Side,
        partitions: Sequence[int],
    ) -> None:
        self._context = context
        self._slices = slices
        self._side = side
        self._partitions = partitions

    def solve(
        self, steps: Sequence[HalfStep], label: str
    ) -> tuple[list[SolvedSlice], list[SharedSums]]:
        """See :class:`als_spark.spark.train.exchange.Exchange`."""
        solvers = [step.objective.row_solver(step.fixed) for step in steps]
        with described(self._context, label), broadcasted(self._context, solvers) as broadcast:
            solve = partial(solve_partition, side=self._side, solvers=broadcast)
            returned = self._context.runJob(self._slices, solve, self._partitions)
        solved: list[SolvedSlice] = []
        shared: list[SharedSums] = []
        for part in returned:
            if isinstance(part, SolveError):
                raise part
            if isinstance(part, SharedSums):
                shared.append(part)
            else:
                solved.append(part)
        solved.sort(key=lambda part: part.number)
        shared.sort(key=lambda part: part.number)
        return solved, shared


def solve_partition(
    slices: Iterable[TrainSlice], *, side: Side, solvers: Broadcast[list[RowSolver]]
) -> Iterator[SolvedSlice | SharedSums | SolveError]:
    """Solve the rows of a partition's slices for every model: runs on an executor.

    A system without a solution is returned, not raised: the user can correct it, and Spark should
    not try the task again.
    """
    prepare_worker()
    models = solvers.value
    for part in slices:
        if part.shared:
            sums = [solver.accumulate(part.ratings) for solver in models]
            yield SharedSums(part.number, part.ratings.rows, sums)
            continue
        try:
            solved = [solver.solve(part.ratings, side=side) for solver in models]
        except SolveError as error:
            yield error
            continue
        factors, losses = zip(*solved, strict=True)
        yield SolvedSlice(part.number, list(factors), list(losses))
