"""What gets the fixed factors to the rating blocks of a side, and the solved rows back.

The plan of a run chooses one exchange for each side (:class:`als_spark.spark.planner.Plan`):

- ``broadcast``: every worker gets all fixed factors, of which those of an executor share one copy
  (:mod:`als_spark.spark.shared`), the driver all solved rows. Each task reads
  its block once, slice by slice, solves the rows of every model inside ``mapPartitions`` with
  NumPy, and returns them.
- ``shuffle``: the fixed factors stay on the executors, and each block gets the rows that it needs.
  A run with it on either side is that of :mod:`als_spark.spark.train.shuffle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from pyspark import RDD, SparkContext

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock
from als_spark.solve.solver import RowSolver, RowSums, add_sums
from als_spark.spark.session import described
from als_spark.spark.shared import HasValue, shared
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import AnyHalfStep, Solved, as_array
from als_spark.types import FloatArray, IntArray, Side

SliceNumber = tuple[int, int]
"""Block, and position of the slice in it."""


class TrainSlice(NamedTuple):
    """A slice of the training ratings of a block."""

    side: Side
    number: SliceNumber
    shared: bool
    """Whether its rows are shared rows, of which other blocks have ratings too."""
    ratings: RatingBlock


class SolvedSlice(NamedTuple):
    """One slice's share of a half-step."""

    number: SliceNumber
    factors: list[FloatArray]
    """(n_rows_of_the_slice, rank) for each model."""
    losses: list[float]


class SharedSums(NamedTuple):
    """What one slice adds to the normal equations of shared rows."""

    number: SliceNumber
    rows: IntArray
    sums: list[RowSums]
    """For each model."""


class Exchange(Protocol):
    """Solves the rows of one side's blocks, wherever these are."""

    def solve(
        self, steps: Sequence[AnyHalfStep], label: str
    ) -> tuple[list[SolvedSlice], list[SharedSums]]:
        """Solve a half-step of models that fit into a worker, in one pass over the blocks.

        Both lists come in the order of the slices, so that sums do not depend on which task ended
        first. ``label`` describes the Spark jobs. SolveError if a row's system has no finite
        solution.
        """
        ...


@dataclass(frozen=True, slots=True)
class BroadcastExchange:
    """See :class:`Exchange`; ``partitions`` of the slices hold the blocks of the side."""

    context: SparkContext
    slices: RDD[TrainSlice]
    side: Side
    partitions: Sequence[int]

    def solve(
        self, steps: Sequence[AnyHalfStep], label: str
    ) -> tuple[list[SolvedSlice], list[SharedSums]]:
        """See :class:`Exchange`."""
        solvers = [step.row_solver() for step in steps]
        with described(self.context, label), shared(self.context, solvers) as broadcast:
            solve = partial(solve_partition, side=self.side, solvers=broadcast)
            returned = self.context.runJob(self.slices, solve, self.partitions)
        solved: list[SolvedSlice] = []
        sums: list[SharedSums] = []
        for part in returned:
            if isinstance(part, SolveError):
                raise part
            if isinstance(part, SharedSums):
                sums.append(part)
            else:
                solved.append(part)
        solved.sort(key=lambda part: part.number)
        sums.sort(key=lambda part: part.number)
        return solved, sums


def join_solved(
    side: Side,
    step: AnyHalfStep,
    k: int,
    solved: Sequence[SolvedSlice],
    shared: Sequence[SharedSums],
    *,
    rows: Mapping[SliceNumber, IntArray],
    degrees: IntArray,
    solver: RowSolver | None,
) -> Solved:
    """Put the solved rows of the k-th model in their places, and solve its shared rows.

    ``rows`` has the dense rows of each slice, ``degrees`` the ratings of each row that the penalty
    counts; the ``solver`` is needed if there are shared rows.
    """
    factors = as_array(step.current).copy()
    for part in solved:
        factors[rows[part.number]] = part.factors[k]
    loss = sum(part.losses[k] for part in solved)
    if shared:
        assert solver is not None
        few, sums = add_sums([(part.rows, part.sums[k]) for part in shared])
        factors[few], shared_loss = solver.solve_sums(sums, few, degrees[few], side=side)
        loss += shared_loss
    return Solved(factors, loss)


def solve_partition(
    slices: Iterable[TrainSlice], *, side: Side, solvers: HasValue[list[RowSolver]]
) -> Iterator[SolvedSlice | SharedSums | SolveError]:
    """Solve the rows of a partition's slices for every model: runs on an executor.

    A system without a solution is returned, not raised: the user can correct it, and Spark should
    not try the task again.
    """
    prepare_worker()
    yield from solve_slices(slices, side, solvers.value)


def solve_slices(
    slices: Iterable[TrainSlice], side: Side, models: Sequence[RowSolver]
) -> Iterator[SolvedSlice | SharedSums | SolveError]:
    """Solve the rows of slices for every model."""
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
