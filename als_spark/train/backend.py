"""What a grid asks of the place where the ratings are: half-steps, errors, ranking measures.

:class:`als_spark.train.local.LocalBackend` answers them in one process,
:class:`als_spark.spark.train.partitioned.PartitionedRatings` on the executors of a Spark cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from als_spark.solve.objective import Objective
from als_spark.solve.solver import RowSolver
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import RankingMeans
from als_spark.types import FloatArray, IntArray, Side, SplitName


class HalfStep(NamedTuple):
    """One model's part of a half-step: solve one side with the other fixed."""

    fixed: FloatArray
    """(n_fixed, rank) factors of the other side."""
    current: FloatArray
    """(n_rows, rank) factors of the side to solve; rows without a rating keep them."""
    objective: Objective
    fixed_degrees: IntArray | None = None
    """(n_fixed,) training ratings of each row of the other side; for implicit objectives."""

    def row_solver(self) -> RowSolver:
        """Return what solves the rows."""
        return self.objective.row_solver(self.fixed, self.fixed_degrees)


class Solved(NamedTuple):
    """A half-step's result."""

    factors: FloatArray
    """(n_rows, rank) new factors, a new array."""
    loss: float
    """Training errors, squared as the objective says, plus the ridge term of the side that was
    solved."""


class Factors(NamedTuple):
    """The factors of one model."""

    users: FloatArray
    """(n_users, rank)"""
    items: FloatArray
    """(n_items, rank)"""

    def __repr__(self) -> str:
        """Say how large they are."""
        (n_users, rank), n_items = self.users.shape, self.items.shape[0]
        return f"<Factors: {n_users:,} users, {n_items:,} items, rank {rank}, {self.items.dtype}>"


class Backend(Protocol):
    """A set of training and held-out ratings that can be solved against."""

    def degrees(self, side: Side, *, positive: bool = False) -> IntArray:
        """(n_rows,) training ratings of each row of a side, or only those above 0."""
        ...

    def solve(self, side: Side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        """Solve all rows of a side, for several models in one pass over the ratings.

        ``label`` describes the step to whoever watches (the Spark UI).
        """
        ...

    def errors(self, models: Sequence[Factors], label: str) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models over the training and the held-out ratings."""
        ...

    def rankings(
        self, models: Sequence[Factors], label: str
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """Measure the rankings of several models on the held-out parts.

        Of each model empty where the ratings were prepared without a
        :class:`als_spark.train.ranking.RankingRule`; a part without a relevant rating is left out.
        """
        ...
