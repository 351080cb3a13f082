"""What gets the fixed factors to the rating blocks of a side, and the solved rows back.

The plan of a run chooses one exchange for each side (:class:`als_spark.spark.planner.Plan`):

- ``broadcast`` (:mod:`als_spark.spark.train.broadcast`): every worker gets all fixed factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from als_spark.solve.blocks import RatingBlock
from als_spark.solve.solver import RowSums
from als_spark.train.backend import HalfStep
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
        self, steps: Sequence[HalfStep], label: str
    ) -> tuple[list[SolvedSlice], list[SharedSums]]:
        """Solve a half-step of a group of models in one pass over the blocks.

        Parameters
        ----------
        steps : sequence of HalfStep
            One a model; together they fit into a worker.
        label : str
            Description of the Spark jobs.

        Returns
        -------
        solved : list of SolvedSlice
        shared : list of SharedSums
            Both in the order of the slices, so that sums over them do not depend on which task
            ended first.

        Raises
        ------
        SolveError
            If a row's system has no finite solution.
        """
        ...
