"""What a grid asks of the place where the ratings are: half-steps, errors, ranking measures.

:class:`als_spark.train.local.LocalBackend` answers them in one process,
:class:`als_spark.spark.train.partitioned.PartitionedRatings` on the executors of a Spark cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.solve.solver import RowSolver
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import RankingMeans
from als_spark.types import SIDES, DType, FloatArray, IntArray, Side, SplitName


class RemoteFactors(Protocol):
    """Factors of one side that stay where they were solved, for a side too large for the driver.

    They are of the backend that has made them; another takes arrays.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        ...

    def plain(self, objective: Objective) -> RemoteFactors:
        """Return factors whose products with the other side's are predictions, of trained ones."""
        ...

    def collect(self) -> FloatArray:
        """Return them as an array of this process."""
        ...

    def pieces(self) -> Iterator[FloatArray]:
        """Bring them to this process in the order of their rows, in pieces of bounded size."""
        ...


AnyFactors = FloatArray | RemoteFactors
"""(n_rows, rank) factors of one side: an array of this process, or kept by a backend."""


def as_array(factors: AnyFactors) -> FloatArray:
    """Return factors as an array of this process, wherever they are."""
    return factors if isinstance(factors, np.ndarray) else factors.collect()


class SummedFactors:
    """Factors that were read back, with the sum of x xᵀ that was known of them.

    A backend that sums up where the factors are would get other last bits from other parts.
    """

    def __init__(self, array: FloatArray, gram: FloatArray) -> None:
        self.array = array
        self.gram = gram

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        n_rows, columns = self.array.shape
        return n_rows, columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.array.dtype

    def plain(self, objective: Objective) -> SummedFactors:
        """Return factors whose products are predictions: implicit objectives have no biases."""
        assert objective.implicit
        return self

    def collect(self) -> FloatArray:
        """Return them as an array of this process."""
        return self.array

    def pieces(self) -> Iterator[FloatArray]:
        """Return them as one piece: they are here."""
        yield self.array


class HalfStep(NamedTuple):
    """One model's part of a half-step: solve one side with the other fixed."""

    fixed: AnyFactors
    """(n_fixed, rank) factors of the other side."""
    current: AnyFactors
    """(n_rows, rank) factors of the side to solve; rows without a rating keep them."""
    objective: Objective
    fixed_degrees: IntArray | None = None
    """(n_fixed,) training ratings of each row of the other side; for implicit objectives."""

    def row_solver(self) -> RowSolver:
        """Return what solves the rows, against factors that are an array of this process."""
        return self.objective.row_solver(as_array(self.fixed), self.fixed_degrees)


class AnyHalfStep(Protocol):
    """A half-step that a solver describes: a :class:`HalfStep`, or one of another method."""

    @property
    def fixed(self) -> AnyFactors:
        """What the solver has of the other side; its columns tell how large that is."""
        ...

    @property
    def current(self) -> AnyFactors:
        """(n_rows, columns) of the side to solve; rows without a rating keep them."""
        ...

    @property
    def objective(self) -> Objective:
        """Whether feedback is implicit."""
        ...

    def row_solver(self) -> RowSolver:
        """Return what solves the rows."""
        ...


class Measures(NamedTuple):
    """What the loop wants to know of new factors; summed where they are."""

    change: float
    """‖x − x before the half-step‖_F over all rows."""
    penalty: float
    """See :meth:`als_spark.solve.objective.Objective.penalty`."""
    squares: float
    """Σ |x|², each row as much as its errors weigh: see
    :meth:`als_spark.solve.objective.Objective.masses`."""


class Solved(NamedTuple):
    """A half-step's result."""

    factors: AnyFactors
    """(n_rows, rank) new factors; a new array, if they are one."""
    loss: float
    """Training errors, squared as the objective says, plus the ridge term of the side that was
    solved."""
    measures: Measures | None = None
    """Of factors that are no array."""


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


class HeldFactors(NamedTuple):
    """The factors of one model, wherever they are."""

    users: AnyFactors
    """(n_users, rank)"""
    items: AnyFactors
    """(n_items, rank)"""

    def __repr__(self) -> str:
        """Say how large they are."""
        (n_users, rank), n_items = self.users.shape, self.items.shape[0]
        sizes = f"{n_users:,} users, {n_items:,} items, rank {rank}"
        return f"<HeldFactors: {sizes}, {self.items.dtype}>"

    def plain(self, objective: Objective) -> HeldFactors:
        """Return factors whose products are the predictions, of trained ones."""
        plain = [
            objective.plain(own, side) if isinstance(own, np.ndarray) else own.plain(objective)
            for side, own in zip(SIDES, self, strict=True)
        ]
        return HeldFactors(*plain)

    def collect(self) -> Factors:
        """Return them as arrays of this process."""
        return Factors(as_array(self.users), as_array(self.items))


FactorPair = tuple[AnyFactors, AnyFactors]
"""Users' and items' factors: a :class:`Factors`, or a :class:`HeldFactors`."""


class Start(NamedTuple):
    """One side of a model before its first iteration."""

    rank: int
    seed: int
    dtype: DType
    columns: int
    """Of the trained factors; those beyond the rank, of biases, are 0."""
    given: FloatArray | None = None
    """(n_rows, rank) factors; None: they are drawn."""


class Backend(Protocol):
    """A set of training and held-out ratings that can be solved against."""

    def degrees(self, side: Side, *, positive: bool = False) -> IntArray:
        """(n_rows,) training ratings of each row of a side, or only those above 0."""
        ...

    def start(self, side: Side, starts: Sequence[Start]) -> Sequence[AnyFactors]:
        """Make the starting factors of a side, of several models.

        See :func:`als_spark.train.start.start_array`.
        """
        ...

    def solve(self, side: Side, steps: Sequence[AnyHalfStep], label: str) -> list[Solved]:
        """Solve all rows of a side, for several models in one pass over the ratings.

        ``label`` describes the step to whoever watches (the Spark UI).
        """
        ...

    def errors(
        self, models: Sequence[FactorPair], label: str
    ) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models over the training and the held-out ratings."""
        ...

    def rankings(
        self, models: Sequence[FactorPair], label: str
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """Measure the rankings of several models on the held-out parts.

        Of each model empty where the ratings were prepared without a
        :class:`als_spark.train.ranking.RankingRule`; a part without a relevant rating is left out.
        """
        ...
