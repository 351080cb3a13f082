"""What solves rows: the protocol that every objective's solver keeps.

A :class:`RowSolver` is made by :meth:`als_spark.solve.objective.Objective.row_solver`, once a
half-step, from the fixed factors. It travels to the executors whole, so it holds arrays and scalars
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from als_spark.solve.blocks import RatingBlock
from als_spark.types import FloatArray, IntArray, Side


class RowSums(NamedTuple):
    """Normal equations of some rows; those of disjoint parts of their ratings add up."""

    stacks: FloatArray
    """(n_rows, rank + 1, rank) float64: the right-hand side of each row, and below it its Gram
    matrix, of which only the upper triangle is promised."""
    squares: FloatArray
    """(n_rows,) float64: what each row has of the objective at factors of zeros, such as r·r."""


class RowSolver(Protocol):
    """Solves rows of one side against the fixed factors of the other."""

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Solve every row of a block.

        Parameters
        ----------
        block : RatingBlock
            All ratings of its rows.
        side : {"user", "item"}
            What the rows are; for the message of an error.

        Returns
        -------
        factors : (n_rows, rank), dtype of the fixed factors
            In the order of ``block.rows``.
        loss : float
            The rows' part of the objective at the solution, in float64: squared errors and the
            penalty of the rows.

        Raises
        ------
        SolveError
            If a row has no finite solution in float64 either.
        """
        ...

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the normal equations of rows whose other ratings are in other blocks."""
        ...

    def solve_sums(
        self, sums: RowSums, rows: IntArray, degrees: IntArray, *, side: Side
    ) -> tuple[FloatArray, float]:
        """Solve rows whose normal equations :meth:`accumulate` has summed over all blocks.

        Parameters
        ----------
        sums : RowSums
        rows : (n_rows,) int
            Dense indices of the rows.
        degrees : (n_rows,) int
            All ratings of each row; those above 0 where the objective is implicit.
        side : {"user", "item"}

        Returns
        -------
        factors : (n_rows, rank), dtype of the fixed factors
        loss : float
            As in :meth:`solve`.

        Raises
        ------
        SolveError
            If a row has no finite solution.
        """
        ...


def add_sums(parts: Sequence[tuple[IntArray, RowSums]]) -> tuple[IntArray, RowSums]:
    """Add the sums of several blocks up.

    Parameters
    ----------
    parts : sequence of (rows, sums)
        Dense indices of a block's rows, rising or not, each once; added in this order.

    Returns
    -------
    rows : (n_rows,) int
        All rows, rising.
    sums : RowSums
    """
    rows = np.unique(np.concatenate([part_rows for part_rows, _ in parts]))
    shape = parts[0][1].stacks.shape[1:]
    total = RowSums(np.zeros((rows.size, *shape)), np.zeros(rows.size))
    for part_rows, part in parts:
        at = np.searchsorted(rows, part_rows)
        total.stacks[at] += part.stacks
        total.squares[at] += part.squares
    return rows, total
