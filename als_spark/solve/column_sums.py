"""Products of the rated-or-not matrix with a few columns, on the half-steps of any backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from als_spark.solve.blocks import RatingBlock
from als_spark.solve.solver import RowSums
from als_spark.types import FloatArray, IntArray, Side


@dataclass(frozen=True, slots=True)
class ColumnSums:
    """Sums, for each row, the (n_columns, k) ``values`` of the columns that it has rated.

    A :class:`als_spark.solve.solver.RowSolver`: it solves nothing, but what it needs travels as
    factors do. The loss is 0.
    """

    values: FloatArray

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:  # noqa: ARG002
        """Sum for every row of a block: (n_rows, k) float64."""
        widths = np.repeat(block.bucket_widths, np.diff(block.bucket_rows))
        starts = np.concatenate([[0], np.cumsum(widths)])
        # Padded places point at a column of zeros.
        padded = np.concatenate([self.values, np.zeros((1, self.values.shape[1]))])
        rated = sparse.csr_array(
            (np.ones(block.indices.size), block.indices, starts),
            shape=(block.n_rows, padded.shape[0]),
        )
        return rated @ padded, 0.0

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum for rows whose other ratings are in other blocks."""
        sums, _ = self.solve(block, side="user")
        return RowSums(sums[:, None], np.zeros(block.n_rows))

    def solve_sums(
        self,
        sums: RowSums,
        rows: IntArray,  # noqa: ARG002
        degrees: IntArray,  # noqa: ARG002
        *,
        side: Side,  # noqa: ARG002
    ) -> tuple[FloatArray, float]:
        """Return the sums of rows over all blocks."""
        return sums.stacks[:, 0], 0.0
