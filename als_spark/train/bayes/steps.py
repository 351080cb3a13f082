"""Half-steps of Bayesian factorisation, on the backends that bring fixed factors to ratings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.solve.solver import RowSolver
from als_spark.train.backend import Backend, as_array
from als_spark.types import FloatArray, Side


class SolverStep(NamedTuple):
    """A half-step of any solver: see :class:`als_spark.train.backend.AnyHalfStep`."""

    fixed: FloatArray
    """What the solver has of the other side: its columns tell how large the step is."""
    current: FloatArray
    """(n_rows, columns) of the side to solve; rows without a rating keep them."""
    solver: RowSolver
    objective: Objective = Objective(0.0)
    """That ratings are explicit."""

    def row_solver(self) -> RowSolver:
        """Return what solves the rows."""
        return self.solver


def run_step(
    backend: Backend, side: Side, solver: RowSolver, fixed: FloatArray, columns: int, label: str
) -> tuple[FloatArray, float]:
    """Run a half-step of one solver; rows without a rating are zeros.

    Returns
    -------
    table : (n_rows, columns) float64
    loss : float
    """
    current = np.zeros((backend.degrees(side).size, columns))
    solved = backend.solve(side, [SolverStep(fixed, current, solver)], label)[0]
    return as_array(solved.factors), solved.loss
